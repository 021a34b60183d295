"""Operators that arrange elements anew without touching them, and those that ask for a shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from gradcli.graph import Builder, Dim, DType, Shape, Type, Var, broadcast, is_static, size
from gradcli.numbers import Array, Numbers
from gradcli.ops.axes import AXES, SHAPE, axes_of, dims, length, product, shape_part, shifted, times
from gradcli.ops.card import Site
from gradcli.ops.kinds import axis_of, flat, lead, linear

# ---- Reshape and Flatten -------------------------------------------------------------------------


def _reshaped(x: Shape | None, target: Sequence[int], allowzero: int, b: Builder) -> Shape:
    """The shape that a Reshape to a known target gives.

    Raises:
        ValueError: When the elements do not fit.
    """
    out: list[Dim] = []
    for axis, dim in enumerate(target):
        if dim != 0 or allowzero:
            out.append(dim)
        elif x is None:
            out += b.fresh(1)
        elif axis >= len(x):
            raise ValueError(f"a 0 at place {axis} of the target copies no dimension of {x}")
        else:
            out.append(x[axis])
    if -1 not in out:
        if x is not None and is_static(x) and is_static(tuple(out)) and size(x) != size(tuple(out)):
            raise ValueError(f"{x} does not reshape to {tuple(target)}")
        return tuple(out)
    place = out.index(-1)
    rest = tuple(out[:place] + out[place + 1 :])
    left = None if x is None else _quotient(x, rest)
    out[place] = b.fresh(1)[0] if left is None else left
    return tuple(out)


def _quotient(x: Shape, rest: Shape) -> Dim | None:
    """What is left of x's elements when the other dimensions have taken theirs."""
    symbols = Counter(d for d in x if isinstance(d, str))
    taken = Counter(d for d in rest if isinstance(d, str))
    if taken - symbols:
        return None
    whole = size(tuple(d for d in x if isinstance(d, int)))
    part = size(tuple(d for d in rest if isinstance(d, int)))
    left = (*(symbols - taken).elements(),)
    if part == 0 or whole % part:
        if part and not left:
            raise ValueError(f"{whole} elements do not split into groups of {part}")
        return None
    return times((*left, whole // part))


def _reshape_infer(s: Site) -> Sequence[Type]:
    target = s.ints(1)
    if target is not None:
        return [(s.x.dtype, _reshaped(s.x.shape, target, s["allowzero"], s.b))]
    rank = length(s.x1)
    return [(s.x.dtype, None if rank is None else s.b.fresh(rank))]


def _reshape(n: Numbers, x: Array, target: np.ndarray, *, allowzero: int) -> Array:
    wanted = target.tolist()
    if not allowzero:
        wanted = [x.shape[k] if d == 0 else d for k, d in enumerate(wanted)]
    return n.reshape(x, wanted)


def _reshape_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    """A 0 in front of the target copies the directions, and a 0 further on its own dimension."""
    if not s["allowzero"]:
        return [s.again(s.x, dims(s.b, [0], s.x1))]
    return [s.again(s.x, dims(s.b, shape_part(s.b, s.x, 0, 1), s.x1))]


def _product(x: Shape, b: Builder) -> Dim:
    known = times(x)
    return b.fresh(1)[0] if known is None else known


def _flatten_infer(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, s.b.fresh(2))]
    axis = _flatten_axis(s["axis"], s.x.rank)
    rows, columns = s.x.shape[:axis], s.x.shape[axis:]
    return [(s.x.dtype, (_product(rows, s.b), _product(columns, s.b)))]


def _flatten_axis(axis: int, rank: int) -> int:
    return rank if axis == rank else axis_of(axis, rank)


def _flatten(n: Numbers, x: Array, *, axis: int) -> Array:
    axis = _flatten_axis(axis, x.ndim)
    return n.reshape(x, (size(x.shape[:axis]), size(x.shape[axis:])))


def _flatten_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    axis = _flatten_axis(s["axis"], s.x.rank - 1)
    rows = product(s.b, shape_part(s.b, s.x, 1, 1 + axis))
    columns = product(s.b, shape_part(s.b, s.x, 1 + axis, s.x.rank))
    return [s.b.op("Reshape", s.x, dims(s.b, shape_part(s.b, s.x, 0, 1), rows, columns))]


# ---- Squeeze and Unsqueeze -----------------------------------------------------------------------


def _names_axes(s: Site) -> bool:
    """Whether axes are given; onnxruntime takes none of them for all."""
    return s.has(1) and s.ints(1) != ()


def _squeeze_infer(s: Site) -> Sequence[Type]:
    shape, given = s.x.shape, s.ints(1) or None
    if shape is None:
        return [(s.x.dtype, None)]
    if _names_axes(s) and given is None:
        count = length(s.x1)
        return [(s.x.dtype, None if count is None else s.b.fresh(len(shape) - count))]
    if given is None:
        if not is_static(shape):
            return [(s.x.dtype, None)]
        return [(s.x.dtype, tuple(d for d in shape if d != 1))]
    axes = axes_of(given, len(shape))
    if wrong := [a for a in axes if isinstance(shape[a], int) and shape[a] != 1]:
        raise ValueError(f"axis {wrong[0]} of {shape} is not of size 1")
    return [(s.x.dtype, tuple(d for a, d in enumerate(shape) if a not in axes))]


def _squeeze(n: Numbers, x: Array, axes: np.ndarray | None = None) -> Array:
    if axes is None or not axes.size:
        return n.reshape(x, tuple(d for d in x.shape if d != 1))
    dropped = axes_of(axes.reshape(-1).tolist(), x.ndim)
    if any(x.shape[a] != 1 for a in dropped):
        raise ValueError(f"axes {dropped} of {x.shape} are not all of size 1")
    return n.reshape(x, tuple(d for a, d in enumerate(x.shape) if a not in dropped))


def _squeeze_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    if _names_axes(s):
        return [s.again(s.x, shifted(s.b, s.x1))]
    if s.x.shape is None or not is_static(s.x.shape[1:]):
        raise NotImplementedError("no axes given, and the shape is not known")
    axes = [a for a, d in enumerate(s.x.shape) if d == 1 and a > 0]
    return [s.again(s.x, s.b.ints(axes)) if axes else s.x]


def _unsqueeze_infer(s: Site) -> Sequence[Type]:
    shape, given = s.x.shape, s.ints(1)
    if shape is None:
        return [(s.x.dtype, None)]
    if given is None:
        count = length(s.x1)
        return [(s.x.dtype, None if count is None else s.b.fresh(len(shape) + count))]
    return [(s.x.dtype, _unsqueezed(shape, given))]


def _unsqueezed(shape: Shape, given: Sequence[int]) -> Shape:
    rank = len(shape) + len(given)
    axes = axes_of(given, rank)
    rest = iter(shape)
    return tuple(1 if a in axes else next(rest) for a in range(rank))


def _unsqueeze(n: Numbers, x: Array, axes: np.ndarray) -> Array:
    shape = _unsqueezed(x.shape, axes.reshape(-1).tolist())
    return n.reshape(x, shape)  # type: ignore[arg-type] # an array's dimensions are ints


def _unsqueeze_in_x(s: Site, y_bar: Var) -> Var:
    if s.ints(1) == ():
        return y_bar
    # Files may name a single axis by a scalar, which onnxruntime takes here but not in Squeeze.
    return s.b.op("Squeeze", y_bar, s.b.reshape(s.x1, [-1]) if s.x1.shape == () else s.x1)


def _along_shifted_axes(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    return [s.again(s.x, shifted(s.b, s.x1))]


# ---- Transpose -----------------------------------------------------------------------------------


def _perm(given: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    perm = tuple(range(rank))[::-1] if given is None else tuple(given)
    if sorted(perm) != list(range(rank)):
        raise ValueError(f"{perm} does not permute {rank} axes")
    return perm


def _transpose_infer(s: Site) -> Sequence[Type]:
    shape = s.x.shape
    if shape is None:
        return [(s.x.dtype, None if s["perm"] is None else s.b.fresh(len(s["perm"])))]
    return [(s.x.dtype, tuple(shape[a] for a in _perm(s["perm"], len(shape))))]


def _inverse(perm: Sequence[int]) -> tuple[int, ...]:
    return tuple(perm.index(a) for a in range(len(perm)))


def _transpose_transpose(s: Site, y_bar: Var) -> Var:
    if s["perm"] is None:
        return s.again(y_bar)
    return s.again(y_bar, perm=_inverse(s["perm"]))


def _transpose_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    perm = _perm(s["perm"], s.x.rank - 1)
    return [s.again(s.x, perm=(0, *(a + 1 for a in perm)))]


# ---- Expand --------------------------------------------------------------------------------------


def _expand_infer(s: Site) -> Sequence[Type]:
    target = s.ints(1)
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    if target is not None:
        return [(s.x.dtype, broadcast(s.x.shape, target))]
    rank = length(s.x1)
    return [(s.x.dtype, None if rank is None else s.b.fresh(max(rank, len(s.x.shape))))]


def _expand(n: Numbers, x: Array, target: np.ndarray) -> Array:
    return n.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(target.tolist())))


def _expand_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    return [s.again(lead(s.b, s.x, s.y.rank), s.x1)]


# ---- questions about a shape ---------------------------------------------------------------------


def _cut(rank: int, start: int, end: int | None) -> slice:
    """start and end count from the back when negative, and are clamped."""
    first, last, _ = slice(start, end).indices(rank)
    return slice(first, max(first, last))


def _shape_infer(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(DType.INT64, s.b.fresh(1))]
    part = s.x.shape[_cut(s.x.rank, s["start"], s["end"])]
    return [(DType.INT64, (len(part),))]


def _shape(n: Numbers, x: Array, *, start: int, end: int | None) -> np.ndarray:
    return np.array(x.shape[_cut(x.ndim, start, end)], np.int64)


def _shape_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    """The shape of one direction's share: the result carries no directions."""
    cut = _cut(s.x.rank - 1, s["start"], s["end"])
    return [shape_part(s.b, s.x, cut.start + 1, cut.stop + 1)]


def _size_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    return [s.b.reshape(product(s.b, shape_part(s.b, s.x, 1, s.x.rank)), [])]


CARDS: tuple[Any, ...] = (
    linear(
        "Reshape",
        _reshape,
        lambda s, y_bar: s.b.reshape_like(y_bar, s.x),
        inputs=("data", "shape"),
        infer=_reshape_infer,
        batch=_reshape_batch,
        attrs={"allowzero": 0},
        flat={"shape": SHAPE},
        moves=True,
        rounds=False,
    ),
    linear(
        "Flatten",
        _flatten,
        lambda s, y_bar: s.b.reshape_like(y_bar, s.x),
        inputs=("input",),
        infer=_flatten_infer,
        batch=_flatten_batch,
        attrs={"axis": 1},
        moves=True,
        rounds=False,
    ),
    linear(
        "Squeeze",
        _squeeze,
        lambda s, y_bar: (
            s.b.op("Unsqueeze", y_bar, s.x1) if _names_axes(s) else s.b.reshape_like(y_bar, s.x)
        ),
        inputs=("data", "axes?"),
        infer=_squeeze_infer,
        batch=_squeeze_batch,
        flat={"axes": AXES},
        moves=True,
        rounds=False,
    ),
    linear(
        "Unsqueeze",
        _unsqueeze,
        _unsqueeze_in_x,
        inputs=("data", "axes"),
        infer=_unsqueeze_infer,
        batch=_along_shifted_axes,
        flat={"axes": AXES},
        moves=True,
        rounds=False,
    ),
    linear(
        "Transpose",
        lambda n, x, perm: n.transpose(x, _perm(perm, x.ndim)),
        _transpose_transpose,
        inputs=("data",),
        infer=_transpose_infer,
        batch=_transpose_batch,
        attrs={"perm": None},
        moves=True,
        rounds=False,
    ),
    linear(
        "Expand",
        _expand,
        lambda s, y_bar: s.b.unbroadcast(y_bar, like=s.x),
        inputs=("input", "shape"),
        infer=_expand_infer,
        batch=_expand_batch,
        flat={"shape": SHAPE},
        rounds=False,
    ),
    flat(
        "Shape",
        _shape,
        "a shape does not depend on the elements",
        inputs=("data",),
        infer=_shape_infer,
        attrs={"start": 0, "end": None},
        batch=_shape_batch,
    ),
    flat(
        "Size",
        lambda n, x: np.array(size(x.shape), np.int64),
        "a size does not depend on the elements",
        inputs=("data",),
        infer=lambda s: [(DType.INT64, ())],
        batch=_size_batch,
    ),
)
