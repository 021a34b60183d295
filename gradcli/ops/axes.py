"""What the structural families share: axes that move, and shapes put together from parts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradcli.graph import Builder, Dim, Shape, Var, is_static, size
from gradcli.ops.card import Site
from gradcli.ops.kinds import axis_of

INDEX = "an index is a whole number"
AXES = "axes are whole numbers"
SHAPE = "a shape is made of whole numbers"
EVERYTHING = 2**63 - 1
"""As the end of a slice: up to the last element, whatever the size."""


def axes_of(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Possibly negative axes as non-negative ones, in the order given.

    Raises:
        ValueError: When there is no such axis, or one is named twice.
    """
    out = tuple(axis_of(axis, rank) for axis in axes)
    if len(set(out)) < len(out):
        raise ValueError(f"an axis is named twice in {tuple(axes)}")
    return out


def shifted(b: Builder, axes: Var) -> Var:
    """Axes of a tensor as axes of the same tensor with one more in front; negative ones stay."""
    if axes.const is not None:
        return b.ints(a if a < 0 else a + 1 for a in axes.const.reshape(-1).tolist())
    return b.where(axes < 0, axes, axes + 1)


def dims(b: Builder, *parts: Var | Sequence[int]) -> Var:
    """One shape tensor of these parts: a constant where all of them are known."""
    known: list[int] = []
    for part in parts:
        array = part.const if isinstance(part, Var) else part
        if array is None:
            pieces = [p if isinstance(p, Var) else b.ints(p) for p in parts]
            return b.op("Concat", *pieces, axis=0)
        known += (int(d) for d in array)
    return b.ints(known)


def shape_part(b: Builder, x: Var, start: int, stop: int) -> Var:
    """x's dimensions from start to stop (0 <= start <= stop <= rank), int64[stop - start]."""
    part = None if x.shape is None else x.shape[start:stop]
    if part is not None and is_static(part):
        return b.ints(part)  # type: ignore[arg-type] # static: all dims are ints
    return b.op("Shape", x, start=start, end=stop)


def product(b: Builder, sizes: Var) -> Var:
    """The product of sizes, int64[1]: a constant where they are one."""
    if sizes.const is not None:
        return b.ints([math.prod(sizes.const.tolist())])
    return b.op("ReduceProd", sizes)


def directions(s: Site, batched: Sequence[bool]) -> Var:
    """How many directions the batched operands carry, int64[1]."""
    first = next(x for x, is_batched in zip(s.inputs, batched, strict=True) if is_batched)
    assert first is not None
    return shape_part(s.b, first, 0, 1)


def with_directions(b: Builder, x: Var, count: Var) -> Var:
    """An operand that carries no directions, repeated for each of them along a leading axis."""
    return b.op("Expand", b.unsqueeze(x, [0]), dims(b, count, [1] * x.rank))


def unstretch(b: Builder, x: Var) -> Var:
    """[B, ...] as [..., B]."""
    return b.transpose(x, [*range(1, x.rank), 0])


def stretch(b: Builder, x: Var) -> Var:
    """[..., B] as [B, ...]."""
    return b.transpose(x, [x.rank - 1, *range(x.rank - 1)])


def times(dims_: Shape) -> Dim | None:
    """The product of these dimensions, where it is an int or a single symbol; else None."""
    symbols = [d for d in dims_ if isinstance(d, str)]
    number = size(tuple(d for d in dims_ if isinstance(d, int)))
    if not symbols or number == 0:
        return number
    return symbols[0] if len(symbols) == 1 and number == 1 else None


def length(x: Var) -> int | None:
    """How many elements a 1-D operand has, where that is known."""
    return x.shape[0] if x.shape is not None and is_static(x.shape) and x.shape else None  # type: ignore[return-value] # static
