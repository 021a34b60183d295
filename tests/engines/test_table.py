"""Every operator of the table as a network of one node, through the rule-free engines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gradcli.engines.base import Primal
from gradcli.graph import DType, is_static
from gradcli.problem import Problem
from gradcli.transform.specialise import specialise
from tests.engines.problems import estimate
from tests.ops.checks import draw
from tests.ops.rows import ROWS
from tests.ops.table import Row


def asked(row: Row, trial: int) -> Problem:
    """The derivative of an operator along a random direction of all its float operands."""
    a = draw(row, trial)
    graph = specialise(a.graph, {name: np.shape(x) for name, x in a.feeds.items()})
    graph = replace(graph, outputs=tuple(v for v in graph.outputs if v.dtype.is_float))
    wrt = tuple(v.name for v in graph.inputs if v.dtype.is_float)
    of = tuple(v.name for v in graph.outputs)
    if not wrt or not of or not all(is_static(v.shape) for v in graph.outputs):
        pytest.skip("nothing to differentiate, or a shape that hangs on the run")
    rng = np.random.default_rng(trial)
    dots = {name: rng.standard_normal(np.shape(a.feeds[name])) for name in wrt}
    return Problem(None, graph, wrt, of, "jvp", a.feeds, dots, {}, DType.FLOAT64)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.op)
@pytest.mark.parametrize("trial", range(2))
def test_the_ladder_and_the_complex_step_cover_each_other(row, trial):
    problem = asked(row, trial)
    ladder, step = estimate("finite", problem), estimate("complex-step", problem)
    for key in problem.keys:
        doubt = ladder.uncertainty[key] + step.uncertainty[key]
        assert np.all(np.abs(ladder.blocks[key] - step.blocks[key]) <= 2 * doubt)
        largest = np.max(np.abs(step.blocks[key]), initial=0.0)
        assert np.all(doubt <= 1e-8 * largest + 1e-12)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.op)
@pytest.mark.parametrize("trial", range(4))
def test_points_at_once_are_as_one_by_one(row, trial):
    problem = asked(row, trial)
    f = Primal(problem)
    x = f.join(problem.point)
    rng = np.random.default_rng(trial)
    xs = x + 1e-3 * np.array([[0.0], [1.0], [-1.0]]) * rng.standard_normal(x.shape)
    singly = np.array([f(x, problem.point) for x in xs])
    np.testing.assert_allclose(f.many(xs, problem.point), singly, rtol=1e-12, atol=1e-13)
