"""Points where a careless rule makes NaN of 0 times infinity: no derivative has one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradcli.graph import DType
from gradcli.interpret import interpret
from gradcli.ops import OPS
from gradcli.transform import cast, jvp, vjp
from tests.ops.checks import Applied, applied, rename, run_onnx
from tests.ops.rows import TABLE
from tests.ops.table import Case

LAST = np.array([-1])
ROWS = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 4.0]])
IMAGE = np.zeros((2, 4, 3, 3))
IMAGE[1] = 1.0
FOUR = np.array([1.0, -1.0, 2.0, 0.5])
WINDOW = {"kernel_shape": (2, 2)}

POINTS: list[tuple[str, tuple[np.ndarray, ...], dict[str, Any]]] = [
    *[(f"Reduce{op}", (ROWS, LAST), {}) for op in ("L1", "L2", "SumSquare", "Prod", "Max", "Min")],
    ("ReduceLogSumExp", (np.array([[-np.inf, 1.0], [-np.inf, -np.inf]]), LAST), {}),
    *[("LpNormalization", (ROWS,), {"p": p}) for p in (1, 2)],
    *[("LpPool", (IMAGE,), {"p": p, **WINDOW}) for p in (1, 2, 3, 4)],
    *[("GlobalLpPool", (IMAGE,), {"p": p}) for p in (1, 2, 3)],
    ("LRN", (IMAGE,), {"size": 3}),
    ("MeanVarianceNormalization", (IMAGE,), {}),
    ("RMSNormalization", (ROWS, np.ones(3)), {}),
    ("InstanceNormalization", (IMAGE, FOUR, FOUR), {}),
    ("GroupNormalization", (IMAGE, FOUR, FOUR), {"num_groups": 2}),
    ("LayerNormalization", (ROWS, np.ones(3)), {}),
    ("Det", (np.zeros((3, 3)),), {}),
    ("Einsum", (ROWS, ROWS), {"equation": "ij,ij->"}),
]


def at(op: str, operands: tuple[np.ndarray, ...], attrs: dict[str, Any]) -> Applied:
    return applied(TABLE[op], Case(operands, attrs))


@pytest.mark.parametrize(("op", "operands", "attrs"), POINTS)
def test_no_derivative_is_nan(op, operands, attrs):
    a = at(op, operands, attrs)
    back = vjp(a.graph)
    both = jvp(back.graph, list(a.feeds), list(back.results.values()))
    feeds = a.feeds | rename(back.directions, a.directions(a.smooth, 1))
    feeds |= rename(both.directions, a.directions(list(a.feeds), 2))
    out = interpret(both.graph, feeds)
    for name in (*back.results.values(), *both.results.values()):
        assert not np.isnan(out[name]).any(), name


@pytest.mark.parametrize(("op", "operands", "attrs"), POINTS)
def test_nor_is_it_in_onnxruntime(op, operands, attrs):
    a = at(op, operands, attrs)
    assert OPS[op].since < 24
    graph = cast(a.graph, DType.FLOAT32)
    for d, names in ((jvp(graph), list(a.feeds)), (vjp(graph), a.smooth)):
        out = run_onnx(d.graph, a.feeds | rename(d.directions, a.directions(names, 1)))
        for name in d.results.values():
            assert not np.isnan(out[name]).any(), name
