"""Operators that draw at random: their types are known, and they are refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from gradcli import api
from gradcli.errors import UnsupportedError
from gradcli.graph import DType
from tests.onnxfile.models import info, model
from tests.ops import checks
from tests.ops.rows import random

X = np.ones((2, 3), np.float32)
TYPES = {
    "RandomNormal": (DType.FLOAT32, (2, 3)),
    "RandomUniform": (DType.FLOAT32, (2, 3)),
    "RandomNormalLike": (DType.FLOAT64, (2, 3)),
    "RandomUniformLike": (DType.FLOAT64, (2, 3)),
    "Bernoulli": (DType.INT64, (2, 3)),
    "Multinomial": (DType.INT32, (2, 4)),
}


@pytest.mark.parametrize("row", random.ROWS, ids=lambda row: row.op)
def test_types_are_foretold(row):
    (y,) = checks.draw(row, 0).graph.outputs
    assert (y.dtype, y.shape) == TYPES[row.op]


def noisy() -> bytes:
    """y = tanh(h), h = x + noise."""
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["n"], name="the noise"),
        helper.make_node("Add", ["x", "n"], ["h"]),
        helper.make_node("Tanh", ["h"], ["y"]),
    ]
    return model(nodes, [info("x", [2, 3])]).SerializeToString()


def test_a_draw_is_refused_with_its_node_and_the_reason():
    with pytest.raises(UnsupportedError, match=r"RandomNormalLike \(node 'the noise': it draws at"):
        api.jacobian(noisy(), {"x": X})


def test_what_comes_after_a_draw_can_be_differentiated():
    slope = api.jacobian(noisy(), {"x": X}, wrt="h")["y/h"].reshape(6, 6)
    assert np.all((np.diag(slope) > 0.0) & (np.diag(slope) <= 1.0))
    np.testing.assert_array_equal(slope, np.diag(np.diag(slope)))
