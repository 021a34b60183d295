"""How the operators of gradcli/ops/elementwise.py are tested."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.ops.table import Case, Kink, Row, narrower, normal, shape

Draw = Callable[[np.random.Generator], Case]
AWAY = 0.05
"""How far draws keep from kinks and edges: well beyond the widest finite difference."""


def unary(low: float = -3.0, high: float = 3.0, away: float = 0.0, **attrs: Any) -> Draw:
    """One operand between bounds, not near 0."""

    def draw(rng: np.random.Generator) -> Case:
        x = rng.uniform(low, high, shape(rng))
        if low < 0.0:
            x = x + np.copysign(away, x)
        return Case((x,), attrs)

    return draw


def pair(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast, either being the wider one."""
    wide = shape(rng)
    narrow = narrower(rng, wide)
    return (wide, narrow) if rng.random() < 0.5 else (narrow, wide)


def binary(away: float = 0.0) -> Draw:
    """Two operands that broadcast; the second keeps away from 0."""

    def draw(rng: np.random.Generator) -> Case:
        a, b = pair(rng)
        return Case((normal(rng, a), normal(rng, b, away)))

    return draw


def variadic(rng: np.random.Generator) -> Case:
    """One to four operands that broadcast, all elements at least AWAY apart from each other."""
    wide = shape(rng)
    count = int(rng.integers(1, 5))
    dims = [wide, *(narrower(rng, wide) for _ in range(count - 1))]
    # Distinct multiples of 2 AWAY, in random order: no two elements tie.
    total = sum(int(np.prod(d)) for d in dims)
    levels = iter(rng.permutation(total) * (2 * AWAY) - total * AWAY)
    return Case(
        tuple(np.array([next(levels) for _ in range(int(np.prod(d)))]).reshape(d) for d in dims)
    )


def draw_pow(rng: np.random.Generator) -> Case:
    """A positive base to any power; or any base to a constant whole one."""
    a, b = pair(rng)
    if rng.random() < 0.5:
        return Case((rng.uniform(0.2, 2.0, a), rng.uniform(-2.0, 2.0, b)))
    exponent: np.ndarray = rng.choice(
        [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0], b if rng.random() < 0.5 else ()
    )
    if rng.random() < 0.3:
        return Case((normal(rng, a, 0.2), exponent.astype(np.int64)))
    return Case((normal(rng, a, 0.2), exponent), fixed=(1,))


def draw_mod(rng: np.random.Generator) -> Case:
    """a = (turns + a part between 0.1 and 0.9) b."""
    a, b = pair(rng)
    divisor = normal(rng, b, 0.5)
    wide = np.broadcast_shapes(a, b)
    turns = rng.integers(-3, 3, wide) + rng.uniform(0.1, 0.9, wide)
    return Case((turns * divisor, divisor), {"fmod": 1})


def draw_clip(rng: np.random.Generator) -> Case:
    """With both bounds, either, or none; now and then the lower above the upper."""
    low, high = (-0.7, 0.9) if rng.random() < 0.8 else (0.6, -0.4)
    x = rng.uniform(-2.0, 2.0, shape(rng))
    for bound in (low, high):
        x = np.where(np.abs(x - bound) < AWAY, x + 3 * AWAY, x)
    bounds = (np.array(low), np.array(high))
    given = [bound if rng.random() < 0.8 else None for bound in bounds]
    return Case((x, *given))


def draw_cast(rng: np.random.Generator) -> Case:
    """From and to numbers, integers and truth values."""
    dims = shape(rng)
    sources: tuple[np.ndarray, ...] = (
        rng.integers(-9, 9, dims) + rng.uniform(0.1, 0.9, dims),
        rng.integers(-9, 9, dims),
        rng.random(dims) < 0.5,
    )
    source = sources[int(rng.integers(0, 3))]
    to = str(rng.choice(["float64", "float64", "float32", "float16", "int64", "int32", "bool"]))
    # A rounding is a staircase to every witness; test_elementwise.py asks for its convention.
    return Case((source,), {"to": to}, fixed=(0,) if to in ("float32", "float16") else ())


def draw_cast_like(rng: np.random.Generator) -> Case:
    """To float64 only: the width of numbers is not seen by `impl`."""
    return Case((normal(rng, shape(rng)), normal(rng, (2,))), fixed=(1,))


def draw_dropout(rng: np.random.Generator) -> Case:
    """With and without its optional operands, with and without its mask."""
    x = normal(rng, shape(rng))
    extra = ((), (np.array(0.3),), (np.array(0.3), np.array(False)))[int(rng.integers(0, 3))]
    return Case((x, *extra), outputs=int(rng.integers(1, 3)), fixed=(1,))


def at(
    x: list[float], gradient: list[float], attrs: Mapping[str, Any] | None = None, **operands: Any
) -> Kink:
    """A point of a unary operator, with the conventional derivative there."""
    return Kink(Case((np.array(x),), attrs or {}), 0, np.array(gradient))


def of(wrt: int, gradient: Any, *operands: Any, **attrs: Any) -> Kink:
    """A point of an operator with several operands."""
    arrays = tuple(None if x is None else np.asarray(x, np.float64) for x in operands)
    return Kink(Case(arrays, attrs), wrt, np.asarray(gradient, np.float64))


def ends(*operands: Any, **attrs: Any) -> Case:
    """A point at the edge of the domain."""
    return Case(tuple(np.asarray(x, np.float64) for x in operands), attrs)


TIES = [1.0, 2.0, -np.inf], [1.0, -1.0, -np.inf]
POW_BASE = [0.0, 0.0, 0.0, 0.0, -1.0, 0.0]
POW_EXPONENT = [1.0, 2.0, 3.0, 0.0, 2.0, 1.5]

ROWS = (
    Row("Add", binary(), dynamic="free"),
    Row("Sub", binary(), dynamic="free"),
    Row("Mul", binary(), dynamic="free"),
    Row("Div", binary(0.3), dynamic="free", edges=(ends([[1.0], [2.0]], [0.0, 1.0]),)),
    Row(
        "Mod",
        draw_mod,
        (of(0, [1.0, 1.0], [3.0, -4.0], 1.0, fmod=1), of(1, [-3.0], [3.0], [1.0], fmod=1)),
        dynamic="free",
        tolerance=1e-11,
        edges=(ends([1.0, 1.0], [0.0, 1.0], fmod=1),),
    ),
    Row(
        "Pow",
        draw_pow,
        (
            of(0, [1.0, 0.0, 0.0, 0.0, -2.0, 0.0], POW_BASE, POW_EXPONENT),
            *(of(0, [slope], [0.0], [power]) for power, slope in ((0, 0), (1, 1), (2, 0), (3, 0))),
            of(1, [0.0, 0.0], [0.0, 0.0], [1.0, 2.5]),
        ),
        dynamic="free",
        tolerance=1e-11,
        edges=(ends([0.0, 0.0, 1.0], [-1.0, 0.5, 0.5]),),
    ),
    Row("Sum", variadic, dynamic="free"),
    Row("Mean", variadic, dynamic="free"),
    Row("Neg", unary(), dynamic="free"),
    Row("Reciprocal", unary(away=0.3), dynamic="free", edges=(ends([0.0, 1.0]),)),
    Row("Abs", unary(away=AWAY), (at([0.0, -0.0, 1.0], [0.0, 0.0, 1.0]),), dynamic="free"),
    Row("Exp", unary(), dynamic="free"),
    Row("Log", unary(0.2, 3.0), dynamic="free", edges=(ends([0.0, 1.0]),)),
    Row("Sqrt", unary(0.2, 3.0), dynamic="free", edges=(ends([0.0, 1.0]),)),
    Row("Sin", unary(), dynamic="free"),
    Row("Cos", unary(), dynamic="free"),
    Row("Tan", unary(-1.2, 1.2), dynamic="free", edges=(ends([np.pi / 2, -np.pi / 2, 0.0]),)),
    Row("Asin", unary(-0.9, 0.9), dynamic="free", edges=(ends([1.0, -1.0, 0.0]),)),
    Row("Acos", unary(-0.9, 0.9), dynamic="free", edges=(ends([1.0, -1.0, 0.0]),)),
    Row("Atan", unary(), dynamic="free"),
    Row("Sinh", unary(), dynamic="free"),
    Row("Cosh", unary(), dynamic="free"),
    Row("Asinh", unary(), dynamic="free"),
    Row("Acosh", unary(1.2, 3.0), dynamic="free", edges=(ends([1.0, 2.0]),)),
    Row("Atanh", unary(-0.9, 0.9), dynamic="free", edges=(ends([1.0, -1.0, 0.0]),)),
    Row("Tanh", unary(), dynamic="free"),
    Row("Sigmoid", unary(), dynamic="free"),
    Row("Erf", unary(), dynamic="free"),
    Row(
        "Max",
        variadic,
        (
            of(0, [0.5, 1.0, 0.5], *TIES),
            of(1, [0.5, 0.0, 0.5], *TIES),
            *(of(k, [1 / 3], [2.0], [2.0], [2.0]) for k in range(3)),
            of(2, [0.0], [2.0], [2.0], [1.0]),
        ),
        dynamic="free",
    ),
    Row(
        "Min",
        variadic,
        (
            of(0, [0.5, 0.0, 0.5], *TIES),
            of(1, [0.5, 1.0, 0.5], *TIES),
            *(of(k, [1 / 3], [2.0], [2.0], [2.0]) for k in range(3)),
        ),
        dynamic="free",
    ),
    Row(
        "Clip",
        draw_clip,
        (
            of(0, [0.0, 1.0, 0.0, 0.0], [-1.0, 0.5, 1.0, 2.0], -1.0, 1.0),
            of(1, 1.0, [-1.0, 0.5, 1.0, 2.0], -1.0, 1.0),
            of(2, 2.0, [-1.0, 0.5, 1.0, 2.0], -1.0, 1.0),
            of(0, [0.0, 0.0, 0.0], [-1.0, 0.5, 2.0], 0.5, 0.5),
            of(1, 0.0, [-1.0, 0.5, 2.0], 0.5, 0.5),
            of(2, 3.0, [-1.0, 0.5, 2.0], 0.5, 0.5),
        ),
        dynamic="free",
    ),
    Row("Identity", unary(), dynamic="free"),
    Row(
        "Cast",
        draw_cast,
        (
            at([1.0, 2.0, 0.5], [0.0, 0.0, 0.0], {"to": "int64"}),
            at([0.0, 1.0], [0.0, 0.0], {"to": "bool"}),
            at([1.0625, 1.0, 1e3], [0.0, 0.0, 0.0], {"to": "float8_e4m3fn"}),
        ),
        dynamic="free",
    ),
    Row("CastLike", draw_cast_like, dynamic="free"),
    Row("Dropout", draw_dropout, dynamic="free"),
)
