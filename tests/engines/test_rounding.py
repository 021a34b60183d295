from dataclasses import replace

import numpy as np
import pytest

from gradcli.engines.base import shaken, spread
from gradcli.graph import DType
from gradcli.interpret import Evaluator
from tests.engines.problems import estimate, problem


def runs(asked, eps, count=20):
    table = shaken(asked.table, np.random.default_rng(0), eps)
    return [Evaluator(asked.exact, table=table).run(asked.point)["y"] for _ in range(count)]


def test_what_only_moves_or_chooses_elements_is_exact():
    def f(b, v):
        x = b.op("Transpose", b.unsqueeze(v, [0]), perm=(2, 0, 1))
        x = b.op("Slice", x, b.ints([0]), b.ints([2]), b.ints([0]))
        x = b.op("Reshape", b.op("Expand", x, b.ints([2, 1, 3])), b.ints([-1]))
        x = b.op("Neg", b.op("Relu", b.op("Identity", x)))
        return b.op("Max", x, b.op("Cast", x > -0.5, to="float64"))

    asked = problem(f, np.random.default_rng(1).standard_normal((3, 2))[:, :1] * np.ones((1, 3)))
    (exact,) = Evaluator(asked.exact).run(asked.point).values()
    assert all(np.array_equal(run, exact) for run in runs(asked, 1e-3))


def test_the_spread_is_as_large_as_float32_errors_are():
    rng = np.random.default_rng(2)
    a, x = rng.standard_normal((40, 40)) / 6, rng.standard_normal((1, 40))

    def f(b, v):
        for _ in range(3):
            v = b.op("Tanh", b.op("MatMul", v, b.constant(a)))
        return v

    asked = problem(f, x)
    (exact,) = Evaluator(asked.exact).run(asked.point).values()
    narrow = x.astype(np.float32)
    for _ in range(3):
        narrow = np.tanh(narrow @ a.astype(np.float32))
    wide = spread(runs(asked, DType.FLOAT32.eps), exact)
    error = np.abs(narrow - exact)
    assert np.all(error <= 2 * wide)
    assert np.median(wide) < 30 * np.median(error)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_places_that_are_computed_are_not_moved_by_a_rounding_error(padding):
    """Of an element's place, an integer, a cast would make the one before it."""

    def f(b, v):
        grid = b.constant(np.random.default_rng(4).uniform(-1.2, 1.2, (1, 3, 3, 2)))
        image = b.op("Reshape", v, b.ints([1, 1, 4, 5]))
        return b.op(
            "GridSample", image, grid * b.op("ReduceSum", v * v, keepdims=0), padding_mode=padding
        )

    v = np.random.default_rng(3).standard_normal(20)
    asked = problem(f, v / np.linalg.norm(v))
    exact = estimate("reverse", asked)
    restless = replace(asked, table=shaken(asked.table, np.random.default_rng(0), 1e-9))
    np.testing.assert_allclose(
        estimate("reverse", restless).blocks["y", "x"], exact.blocks["y", "x"], atol=1e-6
    )
