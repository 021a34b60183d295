"""What the table of rows cannot ask of losses: infinities that are ignored, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType, Graph
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import jvp, vjp

LABELS = np.array([1, 0, 9])
CERTAIN = np.array([[-np.inf, 0.0], [-0.5, -1.0], [-np.inf, np.nan]])


def loss(op: str, shape: tuple[int, ...], **attrs: object) -> Graph:
    """A loss that ignores the label 9, of `x` and the weights `w`."""
    b = Builder(OPS)
    x, w = b.input("x", DType.FLOAT64, shape), b.input("w", DType.FLOAT64, (2,))
    return b.graph([b.op(op, x, b.constant(LABELS), w, name="y", ignore_index=9, **attrs)])


def test_what_is_ignored_may_be_infinite_or_nan():
    graph = loss("NegativeLogLikelihoodLoss", (3, 2), reduction="mean")
    feeds = {"x": CERTAIN, "w": np.array([3.0, 1.0])}
    back = interpret(vjp(graph).graph, {**feeds, "y_bar": np.array(4.0)})
    assert back["y"] == 1.5 / 4.0
    np.testing.assert_array_equal(back["x_bar"], [[0.0, -1.0], [-3.0, 0.0], [0.0, 0.0]])
    # d(3 / 2 / (w0 + w1)) and d(w0 / 2 / (w0 + w1)): the divisor moves too.
    np.testing.assert_allclose(back["w_bar"], [0.125, -0.375], rtol=1e-15)
    dots = {"x_dot": np.ones((3, 2)), "w_dot": np.zeros(2)}
    assert interpret(jvp(graph).graph, feeds | dots)["y_dot"] == -1.0


def test_no_probability_underflows():
    graph = loss("SoftmaxCrossEntropyLoss", (3, 2), reduction="sum")
    x = np.array([[800.0, -800.0], [-800.0, 800.0], [0.0, 0.0]])
    out = interpret(vjp(graph).graph, {"x": x, "w": np.ones(2), "y_bar": np.array(1.0)})
    assert out["y"] == 3200.0
    np.testing.assert_array_equal(out["x_bar"], [[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]])


@pytest.mark.parametrize("op", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_an_unknown_reduction_is_refused(op):
    with pytest.raises(UnsupportedError, match="reduction 'median'"):
        loss(op, (3, 2), reduction="median")
