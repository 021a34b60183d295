"""How the operators of gradcli/ops/reduce.py are tested."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tests.ops.table import Case, Kink, Row, normal, shape

Draw = Callable[[np.random.Generator], Case]


def some_axes(rng: np.random.Generator, rank: int) -> np.ndarray | None:
    """None, no axes, or some of them, negative or not."""
    if rng.random() < 0.25:
        return None
    count = int(rng.integers(0, rank + 1))
    axes = rng.permutation(rank)[:count]
    return np.where(rng.random(count) < 0.5, axes, axes - rank).astype(np.int64)


def apart(rng: np.random.Generator, dims: tuple[int, ...]) -> np.ndarray:
    """Numbers of either sign, no two closer than 0.1."""
    levels = rng.permutation(math.prod(dims)) * 0.1 + 0.03
    return (levels - 0.05 * math.prod(dims)).reshape(dims)


def reduction(numbers: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]) -> Draw:
    """Any axes, kept or dropped; none given means all, or nothing at all."""

    def draw(rng: np.random.Generator) -> Case:
        dims = shape(rng)
        axes = some_axes(rng, len(dims))
        keep, noop = (int(i) for i in rng.integers(0, 2, 2))
        x = numbers(rng, dims)
        attrs = {"keepdims": keep, "noop_with_empty_axes": noop}
        return Case((x,) if axes is None else (x, axes), attrs)

    return draw


def with_zeros(rng: np.random.Generator, dims: tuple[int, ...]) -> np.ndarray:
    """Standard normal, and exactly 0 here and there: a product is smooth there too."""
    return normal(rng, dims) * (rng.random(dims) < 0.7)


def positive(rng: np.random.Generator, dims: tuple[int, ...]) -> np.ndarray:
    """Away from 0, above it."""
    return rng.uniform(0.3, 2.0, dims)


def away(rng: np.random.Generator, dims: tuple[int, ...]) -> np.ndarray:
    """Of either sign, away from 0."""
    return normal(rng, dims, 0.1)


def extreme_place(rng: np.random.Generator) -> Case:
    """Any axis, the first or the last of those that tie (none does)."""
    dims = shape(rng, int(rng.integers(1, 5)))
    axis = int(rng.integers(-len(dims), len(dims)))
    keep, last = (int(i) for i in rng.integers(0, 2, 2))
    return Case((apart(rng, dims),), {"axis": axis, "keepdims": keep, "select_last_index": last})


LAST = np.array([-1])
TIED = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0], [0.0, 5.0, 4.0]])
ZEROS = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 5.0], [2.0, 4.0, 0.5]])
ZERO_ROW = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
MASKED = np.array([[1.0, -np.inf, 1.0], [-np.inf, -np.inf, -np.inf]])

ROWS = (
    Row("ReduceSum", reduction(normal), dynamic="free"),
    Row("ReduceMean", reduction(normal), dynamic="free"),
    Row(
        "ReduceMax",
        reduction(apart),
        dynamic="free",
        kinks=(
            Kink(
                Case((TIED, LAST)),
                0,
                np.array([[0, 1 / 2, 1 / 2], [1 / 3, 1 / 3, 1 / 3], [0, 1, 0]]),
            ),
            Kink(Case((np.zeros((2, 2)),), {"keepdims": 0}), 0, np.full((2, 2), 1 / 4)),
        ),
    ),
    Row(
        "ReduceMin",
        reduction(apart),
        dynamic="free",
        kinks=(
            Kink(
                Case((-TIED, LAST), {"keepdims": 0}),
                0,
                np.array([[0, 1 / 2, 1 / 2], [1 / 3, 1 / 3, 1 / 3], [0, 1, 0]]),
            ),
        ),
    ),
    Row(
        "ReduceProd",
        reduction(with_zeros),
        dynamic="free",
        kinks=(
            Kink(Case((ZEROS, LAST)), 0, np.array([[0.0, 6, 0], [0, 0, 0], [2, 1, 8]])),
            Kink(Case((ZEROS,), {"keepdims": 0}), 0, np.zeros((3, 3))),
        ),
    ),
    Row("ReduceSumSquare", reduction(normal), dynamic="free"),
    Row(
        "ReduceL1",
        reduction(away),
        dynamic="free",
        kinks=(Kink(Case((np.array([[0.0, 1.0, -2.0]]), LAST)), 0, np.array([[0.0, 1.0, -1.0]])),),
    ),
    Row(
        "ReduceL2",
        reduction(away),
        dynamic="free",
        kinks=(Kink(Case((ZERO_ROW, LAST)), 0, np.array([[0.6, 0.8, 0.0], [0.0, 0.0, 0.0]])),),
    ),
    Row("ReduceLogSum", reduction(positive), dynamic="free", edges=(Case((np.zeros(3),)),)),
    Row(
        "ReduceLogSumExp",
        reduction(normal),
        dynamic="free",
        kinks=(Kink(Case((MASKED, LAST)), 0, np.array([[0.5, 0.0, 0.5], [0.0, 0.0, 0.0]])),),
    ),
    Row("ArgMax", extreme_place),
    Row("ArgMin", extreme_place),
)
