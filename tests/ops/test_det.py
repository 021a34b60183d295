"""Determinants by elimination, which the table of operators leaves out: SymPy cannot follow it."""

from __future__ import annotations

import numpy as np
import pytest

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType
from gradcli.interpret import interpret
from gradcli.numbers import Ball, complex_
from gradcli.ops import OPS
from gradcli.ops.linalg import FEW, MOST
from gradcli.transform import vjp
from tests.ops import checks
from tests.ops.rows import TABLE
from tests.ops.table import Case, normal


def det(x: np.ndarray) -> checks.Applied:
    return checks.applied(TABLE["Det"], Case((x,)))


@pytest.mark.parametrize("count", [FEW + 1, FEW + 3])
def test_large_determinants_meet_all_that_small_ones_do(count):
    a = det(normal(np.random.default_rng(count), (2, count, count)))
    (y,) = a.primal().values()
    np.testing.assert_allclose(y, np.linalg.det(a.feeds["x0"]), rtol=1e-11)
    checks.check_sealed(a)
    checks.check_system(a, complex_)
    checks.check_system(a, Ball())
    checks.check_jvp(a)
    checks.check_vjp(a)


def test_a_column_of_zeros_makes_it_zero():
    count = FEW + 2
    x = normal(np.random.default_rng(1), (count, count))
    x[:, 2] = 0.0
    a = det(x)
    (y,) = a.primal().values()
    assert y == 0.0
    minor = np.linalg.det(np.delete(np.delete(x, 4, axis=0), 2, axis=1))
    d = vjp(a.graph)
    out = interpret(d.graph, a.feeds | dict.fromkeys(d.directions.values(), np.ones(())))
    np.testing.assert_allclose(out[d.results["x0"]][4, 2], minor, rtol=1e-10)


def test_that_of_nothing_is_1():
    a = det(np.zeros((3, 0, 0)))
    (y,) = a.primal().values()
    np.testing.assert_array_equal(y, np.ones(3))
    assert vjp(a.graph).results.keys() == {"x0"}


@pytest.mark.parametrize("dims", [(2, 3), (4,)])
def test_what_is_not_square_is_refused(dims):
    b = Builder(OPS)
    with pytest.raises(ValueError, match="determinant of"):
        b.op("Det", b.input("x", DType.FLOAT32, dims))


@pytest.mark.parametrize("dims", [(MOST + 1, MOST + 1), ("n", "n")])
def test_derivatives_of_many_rows_or_unknown_ones_are_refused(dims):
    b = Builder(OPS)
    graph = b.graph([b.op("Det", b.input("x", DType.FLOAT32, dims))])
    with pytest.raises(UnsupportedError, match="rows"):
        vjp(graph)
