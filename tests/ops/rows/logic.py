"""How the operators of gradcli/ops/logic.py are tested."""

from __future__ import annotations

import numpy as np

from tests.ops.rows.elementwise import AWAY, Draw, at, of, pair
from tests.ops.table import Case, Row, narrower, normal, shape


def comparison(rng: np.random.Generator) -> Case:
    """Numbers that are apart, or integers that are often equal."""
    a, b = pair(rng)
    if rng.random() < 0.5:
        return Case((rng.integers(0, 3, a), rng.integers(0, 3, b)))
    return Case((normal(rng, a), np.abs(normal(rng, b)) + 5.0 * rng.choice([-1.0, 1.0])))


def equality(rng: np.random.Generator) -> Case:
    """As for other comparisons, and truth values."""
    a, b = pair(rng)
    if rng.random() < 0.3:
        return Case((rng.random(a) < 0.5, rng.random(b) < 0.5))
    return comparison(rng)


def connective(operands: int) -> Draw:
    """Truth values that broadcast."""

    def draw(rng: np.random.Generator) -> Case:
        return Case(tuple(rng.random(dims) < 0.5 for dims in pair(rng)[:operands]))

    return draw


def odd_numbers(rng: np.random.Generator) -> Case:
    """Ordinary numbers, infinities and NaN."""
    x = rng.choice([1.5, -2.0, np.inf, -np.inf, np.nan], shape(rng))
    return Case((x,), fixed=(0,))


def infinities(rng: np.random.Generator) -> Case:
    """As above, either sign to be found or not."""
    signs = {name: int(rng.integers(0, 2)) for name in ("detect_negative", "detect_positive")}
    return Case(odd_numbers(rng).inputs, signs, fixed=(0,))


def where(rng: np.random.Generator) -> Case:
    """Numbers or integers, chosen by a condition that broadcasts."""
    wide = shape(rng)
    dims = [wide, narrower(rng, wide), narrower(rng, wide)]
    order = rng.permutation(3)
    condition = rng.random(dims[order[0]]) < 0.5
    if rng.random() < 0.7:
        return Case((condition, *(normal(rng, dims[k]) for k in order[1:])))
    return Case((condition, *(rng.integers(-5, 5, dims[k]) for k in order[1:])))


def steps(shift: float) -> Draw:
    """Numbers at least AWAY from the jumps, which are at the integers plus `shift`."""

    def draw(rng: np.random.Generator) -> Case:
        dims = shape(rng)
        return Case(
            (rng.integers(-4, 4, dims) + rng.uniform(2 * AWAY, 1 - 2 * AWAY, dims) + shift,)
        )

    return draw


def hardmax(rng: np.random.Generator) -> Case:
    """Along any axis: no two elements near each other, or, not differentiated, ties."""
    dims = shape(rng, int(rng.integers(1, 4)))
    axis = int(rng.integers(-len(dims), len(dims)))
    if rng.random() < 0.3:
        return Case((rng.integers(0, 2, dims).astype(np.float64),), {"axis": axis}, fixed=(0,))
    x = rng.permutation(int(np.prod(dims))) * (2 * AWAY)
    return Case((x.reshape(dims),), {"axis": axis})


def bits(operands: int, *dtypes: type, **attrs: object) -> Draw:
    """Unsigned integers that broadcast."""

    def draw(rng: np.random.Generator) -> Case:
        dtype = dtypes[int(rng.integers(0, len(dtypes)))]
        most = 9 if attrs else 255
        return Case(
            tuple(rng.integers(0, most, dims).astype(dtype) for dims in pair(rng)[:operands]), attrs
        )

    return draw


def shifts(rng: np.random.Generator) -> Case:
    """To the left and to the right, by less than all bits."""
    direction = str(rng.choice(["LEFT", "RIGHT"]))
    return bits(2, np.uint32, np.uint64, direction=direction)(rng)


def bit_cast(rng: np.random.Generator) -> Case:
    """Numbers as integers, integers as numbers and as each other."""
    x = normal(rng, shape(rng))
    narrow = np.asarray(x).astype(np.float32)
    cases = (
        Case((x,), {"to": "int64"}, fixed=(0,)),
        Case((narrow.astype(np.float64),), {"to": "uint32"}, fixed=(0,)),
        Case((np.asarray(x).view(np.int64),), {"to": "float64"}),
        Case((narrow.view(np.int32),), {"to": "float32"}),
        Case((narrow.view(np.int32),), {"to": "uint32"}),
        Case((x > 0.0,), {"to": "uint8"}),
    )
    return cases[int(rng.integers(0, len(cases)))]


EQUAL = [1.0, 2.0], [1.0, 3.0]
FLAT = [0.0, 0.0]

ROWS = (
    Row(
        "Hardmax",
        hardmax,
        (of(0, [[0.0, 0.0, 0.0]], [[1.0, 2.0, 2.0]]),),
        dynamic="free",
    ),
    Row("BitwiseAnd", bits(2, np.uint8, np.int32, np.uint64), dynamic="free"),
    Row("BitwiseOr", bits(2, np.uint8, np.int32, np.uint64), dynamic="free"),
    Row("BitwiseXor", bits(2, np.uint8, np.int32, np.uint64), dynamic="free"),
    Row("BitwiseNot", bits(1, np.uint8, np.int32, np.uint64), dynamic="free"),
    Row("BitShift", shifts, dynamic="free"),
    Row("BitCast", bit_cast, dynamic="free"),
    *(
        Row(op, comparison, (of(0, FLAT, *EQUAL),), dynamic="free")
        for op in ("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
    ),
    Row("Equal", equality, (of(0, FLAT, *EQUAL),), dynamic="free"),
    Row("IsNaN", odd_numbers, dynamic="free"),
    Row("IsInf", infinities, dynamic="free"),
    Row("And", connective(2), dynamic="free"),
    Row("Or", connective(2), dynamic="free"),
    Row("Xor", connective(2), dynamic="free"),
    Row("Not", connective(1), dynamic="free"),
    Row("Where", where, dynamic="free"),
    Row("Floor", steps(0.0), (at([1.0, 0.0], FLAT),), dynamic="free"),
    Row("Ceil", steps(0.0), (at([1.0, 0.0], FLAT),), dynamic="free"),
    Row("Round", steps(0.5), (at([0.5, 1.5], FLAT),), dynamic="free"),
    Row(
        "Sign",
        lambda rng: Case((normal(rng, shape(rng), AWAY),)),
        (at([0.0, 1.0], FLAT),),
        dynamic="free",
    ),
)
