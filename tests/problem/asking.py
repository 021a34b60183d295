"""A small network, and how the tests ask about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper

from gradcli.engines import ENGINES, Program
from gradcli.errors import GradcliError
from gradcli.graph import DType
from gradcli.onnxfile import Model
from gradcli.problem import (
    Problem,
    check_feeds,
    pose,
)
from tests.onnxfile import models

F32 = np.float32
NODE = helper.make_node

Shape = Sequence[int | str]


def loaded(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Shape | tuple[Shape, int]],
    outputs: Sequence[str] = ("y",),
    constants: Mapping[str, np.ndarray] | None = None,
    **options: Any,
) -> Model:
    """A model; an input is float32 unless a type stands beside its shape."""
    infos = [
        models.info(name, *given) if isinstance(given, tuple) else models.info(name, given)
        for name, given in inputs.items()
    ]
    return models.read(models.model(nodes, infos, outputs, constants, **options))


def network() -> Model:
    """y = tanh(x w) v on rows of 3, giving 4."""
    rng = np.random.default_rng(0)
    return loaded(
        [
            NODE("MatMul", ["x", "w"], ["h"], name="first"),
            NODE("Tanh", ["h"], ["t"], name="bend"),
            NODE("MatMul", ["t", "v"], ["y"], name="second"),
        ],
        {"x": ["N", 3]},
        constants={
            "w": rng.standard_normal((3, 5)).astype(F32),
            "v": rng.standard_normal((5, 4)).astype(F32),
        },
    )


X = np.array([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]], F32)


def ask(model: Model, feeds: Mapping[str, np.ndarray] | None = None, **question: Any) -> Problem:
    checked, notes = check_feeds(model, feeds or {})
    return pose(model, checked, notes=notes, **question)


def refused(kind: type[GradcliError], *words: str, **question: Any) -> None:
    """The network's question is refused, with these words in what is said."""
    model = question.pop("model", None) or network()
    feeds = question.pop("feeds", {"x": X})
    with pytest.raises(kind) as caught:
        ask(model, feeds, **question)
    said = f"{caught.value.message} | {caught.value.hint}"
    assert [word for word in words if word not in said] == [], said
    assert caught.value.exit_code == 2


def answers(problem: Problem) -> dict[Any, np.ndarray]:
    """The answer by reverse AD in float64, held against the complex step."""
    exact = replace(problem, dtype=DType.FLOAT64)
    reverse, witness = (
        Program(ENGINES[name], exact).run().blocks for name in ("reverse", "complex-step")
    )
    assert list(reverse) == list(problem.keys)
    for key, block in reverse.items():
        assert block.shape == problem.block_shape(key)
        np.testing.assert_allclose(block, witness[key], rtol=1e-12, atol=1e-14, err_msg=str(key))
    return dict(reverse)
