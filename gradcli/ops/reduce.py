"""Operators that fold whole axes into one number: sums, means, extrema, products, norms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, DType, Type, Var, is_static, size
from gradcli.numbers import Array, Mask, Numbers
from gradcli.ops.axes import AXES, axes_of, length, shifted
from gradcli.ops.card import Card, Site, Vars
from gradcli.ops.kinds import axis_of, composite, custom, flat, linear

# ---- what all reductions share -------------------------------------------------------------------

INPUTS = ("data", "axes?")
ATTRS = {"keepdims": 1, "noop_with_empty_axes": 0}
FLAT = {"axes": AXES}


def reduced_axes(s: Site) -> tuple[int, ...] | None:
    """The axes that are folded, none negative; None where they are not known before the run."""
    given = s.ints(1)
    if s.has(1) and given is None:
        return None
    if given:
        return axes_of(given, s.x.rank)
    return () if s["noop_with_empty_axes"] else tuple(range(s.x.rank))


def _infer(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    axes, rank = reduced_axes(s), s.x.rank
    if axes is not None:
        kept = tuple(1 if a in axes else d for a, d in enumerate(s.x.shape))
        dropped = tuple(d for a, d in enumerate(s.x.shape) if a not in axes)
        return [(s.x.dtype, kept if s["keepdims"] else dropped)]
    count = length(s.x1)
    if s["keepdims"]:
        return [(s.x.dtype, s.b.fresh(rank))]
    return [(s.x.dtype, s.b.fresh(rank - count) if count else None)]


def _batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    """The directions' axis stays; the others move one to the right."""
    if s.has(1) and s.ints(1) != ():
        return [s.again(s.x, shifted(s.b, s.x1))]
    if s["noop_with_empty_axes"]:
        return [s.again(s.x)]
    return [s.again(s.x, s.b.ints(range(1, s.x.rank)), noop_with_empty_axes=1)]


def _spread(s: Site, y: Var) -> Var:
    """Something of y's shape with axes of size 1 where they were dropped: it broadcasts with x."""
    if s["keepdims"] or not s.has(1) or s.ints(1) == ():
        return y
    return s.b.op("Unsqueeze", y, s.x1)


def _sum(s: Site, x: Var) -> Var:
    """The sum of something of x's shape, over the axes of this reduction."""
    return s.b.op("ReduceSum", x, *s.inputs[1:2], **s.attrs)


def _reduction(
    fold: Callable[[Numbers, Array, tuple[int, ...], bool], Array],
) -> Callable[..., Any]:
    """An impl from a fold over known axes."""

    def impl(
        n: Numbers, x: Array, axes: Any = None, *, keepdims: int, noop_with_empty_axes: int
    ) -> Array:
        given = () if axes is None else axes_of(axes.reshape(-1).tolist(), x.ndim)
        if not given and not noop_with_empty_axes:
            given = tuple(range(x.ndim))
        return fold(n, x, given, bool(keepdims))

    return impl


def _rows(n: Numbers, x: Array, axes: tuple[int, ...]) -> Array:
    """The folded axes as one last axis."""
    rest = tuple(a for a in range(x.ndim) if a not in axes)
    rows = n.transpose(x, (*rest, *axes))
    return n.reshape(rows, (*(x.shape[a] for a in rest), math.prod(x.shape[a] for a in axes)))


def _keep(n: Numbers, y: Array, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """A result of folded rows, with its axes of size 1 back where they are kept."""
    if not keepdims:
        return y
    return n.reshape(y, tuple(1 if a in axes else d for a, d in enumerate(x.shape)))


# ---- sums and means ------------------------------------------------------------------------------


def _fold_sum(n: Numbers, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    if not n.is_number(x):
        return np.sum(x, axis=axes, keepdims=keepdims, dtype=x.dtype)
    return n.sum(x, axes, keepdims)


def _fold_mean(n: Numbers, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    total = _fold_sum(n, x, axes, keepdims)
    count = math.prod(x.shape[a] for a in axes)
    return n.divide(total, n.full((), float(count)) if n.is_number(x) else np.array(count, x.dtype))


def _sum_transpose(s: Site, y_bar: Var) -> Var:
    return s.b.expand_like(_spread(s, y_bar), s.x)


def _mean_transpose(s: Site, y_bar: Var) -> Var:
    return _sum_transpose(s, y_bar / _count(s))


def _count(s: Site) -> Var | float:
    """How many elements make one."""
    if s.x.shape is not None and (axes := reduced_axes(s)) is not None:
        return s.b.count(s.x, axes)
    whole, parts = s.b.op("Size", s.x), s.b.op("Size", s.y)
    return s.b.cast(whole / parts, s.x.dtype)


# ---- extrema -------------------------------------------------------------------------------------


def _fold_max(n: Numbers, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    if not axes:
        return x
    if n.is_number(x):
        return n.max(x, axes, keepdims)
    return np.max(x, axis=axes, keepdims=keepdims, initial=_limits(x.dtype)[0])


def _fold_min(n: Numbers, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    if not axes:
        return x
    if n.is_number(x):
        return n.min(x, axes, keepdims)
    return np.min(x, axis=axes, keepdims=keepdims, initial=_limits(x.dtype)[1])


def _limits(dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """The extrema of nothing, for elements that have no infinity."""
    if dtype.kind == "b":
        return False, True
    return np.iinfo(dtype).min, np.iinfo(dtype).max


def _ties(s: Site) -> tuple[Var, Var]:
    """Where x is an extremum, and how many share it, in y's shape."""
    mask = s.b.op("Equal", s.x, _spread(s, s.y))
    return mask, _sum(s, s.b.cast(mask, s.x.dtype))


def _extremum_jvp(s: Site, dots: Vars) -> Vars:
    if dots[0] is None:
        return [None]
    mask, ties = _ties(s)
    return [_sum(s, s.b.where(mask, dots[0], 0.0)) / ties]


def _extremum_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    mask, ties = _ties(s)
    return [s.b.where(mask, _spread(s, y_bar / ties), 0.0)]


def _gap(sign: int) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """How far the extremum is ahead of the runner-up, and which element it is."""

    def fold(
        n: Numbers, x: np.ndarray, axes: tuple[int, ...], keepdims: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = sign * _rows(n, x, axes)
        if rows.shape[-1] < 2:
            y = np.zeros(rows.shape[:-1])
            margin, branch = y + np.inf, y.astype(np.int64)
        else:
            two = np.partition(rows, -2, axis=-1)
            margin, branch = two[..., -1] - two[..., -2], np.argmax(rows, axis=-1)
        return _keep(n, margin, x, axes, keepdims), _keep(n, branch, x, axes, keepdims)

    return _kinks(fold)


def _extremum(op: str, fold: Callable[..., Array], sign: int) -> Card:
    return custom(
        op,
        _reduction(fold),
        _extremum_jvp,
        _extremum_vjp,
        inputs=INPUTS,
        infer=_infer,
        attrs=ATTRS,
        batch=_batch,
        flat=FLAT,
        kinks=_gap(sign),
        convention="elements that tie share evenly",
        rounds=False,
    )


# ---- products ------------------------------------------------------------------------------------


def _fold_prod(n: Numbers, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    if not n.is_number(x):
        return np.prod(x, axis=axes, keepdims=keepdims, dtype=x.dtype)
    rows = _rows(n, x, axes)
    while (count := rows.shape[-1]) > 1:
        half = count // 2
        whole = [slice(None)] * (rows.ndim - 1)
        low = n.slice(rows, [*whole, slice(0, half)])
        high = n.slice(rows, [*whole, slice(half, 2 * half)])
        left = n.slice(rows, [*whole, slice(2 * half, count)])
        rows = n.concat([low * high, left], axis=-1) if count % 2 else low * high
    rest = rows.shape[:-1]
    y = n.reshape(rows, rest) if rows.shape[-1] else n.full(rest, 1.0)
    return _keep(n, y, x, axes, keepdims)


def _others(s: Site) -> Var:
    """For each element of x, the product of all others that are folded with it.

    Products of what stands before and after it: exact at zeros and to any order, as y / x is not.
    """
    b, axes = s.b, reduced_axes(s)
    if axes is None:
        raise UnsupportedError(f"{s.key} along axes that are computed at run time")
    rest = [a for a in range(s.x.rank) if a not in axes]
    if 0 in (s.x.shape or ()):
        return s.x  # there are no elements to ask about, and nothing for a -1 to stand for
    perm = [*rest, *axes]
    moved = b.transpose(s.x, perm)
    rows = b.reshape(moved, [*[0] * len(rest), -1])
    folded = tuple(s.x.shape[a] for a in axes) if s.x.shape is not None else ("?",)
    if is_static(folded):
        others = _run(rows, size(folded), 1) * _run(rows, size(folded), -1)
    else:
        others = _leave_one_out(rows)
    back = b.reshape_like(others, moved)
    return b.transpose(back, [perm.index(a) for a in range(s.x.rank)])


def _run(rows: Var, count: int, sign: int) -> Var:
    """The product of all elements before each along the last axis (after it, for sign -1)."""
    one, last = rows.b.like(1.0, rows), rows.b.ints([-1])

    def shift(x: Var, by: int) -> Var:
        return rows.b.op("Pad", x, rows.b.ints([sign * by, -sign * by]), one, last)

    product, reach = shift(rows, 1), 1
    while reach < count - 1:
        product = product * shift(product, reach)
        reach *= 2
    return product


def _leave_one_out(rows: Var) -> Var:
    """The same where the number of elements is not known: quadratic in it."""
    b = rows.b
    count = b.op("Squeeze", b.op("Shape", rows, start=-1), b.ints([0]))
    at = b.op("Range", b.constant(np.int64(0)), count, b.constant(np.int64(1)))
    own = b.op("Equal", at, b.unsqueeze(at, [1]))
    table = b.where(own, 1.0, b.op("Unsqueeze", rows, b.ints([-2])))
    return b.op("ReduceProd", table, b.ints([-1]), keepdims=0)


def _prod_jvp(s: Site, dots: Vars) -> Vars:
    return [None if dots[0] is None else _sum(s, _others(s) * dots[0])]


def _prod_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    return [_others(s) * _spread(s, y_bar)]


# ---- norms and logarithms of sums ----------------------------------------------------------------


def powers(n: Numbers, x: Array, p: int) -> Array:
    """|x| to the p, elementwise, for whole p from 1 on."""
    if p == 2:
        return x * x
    size = n.abs(x) if p % 2 else x
    return size if p == 1 else n.power(size, np.array(p))


def root(n: Numbers, total: Array, p: int) -> Array:
    """The p-th root of a sum of powers; 0 of nothing, whatever moves there (see `graph_root`)."""
    if p == 1:
        return total
    nothing, norm = safe_root(n, total, p)
    return n.where(nothing, n.zero, norm)


def safe_root(n: Numbers, total: Array, p: int) -> tuple[Mask, Array]:
    """Where a sum of powers is nothing, and its p-th root, which is 1 there."""
    # Below 0, too: a complex step out of 0 squares to that.
    nothing = n.logical_or(n.equal(total, n.zero), n.less(total, n.zero))
    one = n.full((), 1.0)
    safe = n.where(nothing, one, total)
    if p == 1:
        return nothing, safe
    return nothing, n.sqrt(safe) if p == 2 else n.power(safe, one / float(p))


def graph_powers(b: Builder, x: Var, p: int) -> Var:
    """`powers`, as nodes."""
    if p == 2:
        return x * x
    size = b.op("Abs", x) if p % 2 else x
    return size if p == 1 else b.op("Pow", size, b.like(float(p), size))


def graph_root(b: Builder, total: Var, p: int) -> Var:
    """`root`, as nodes: at 0 its derivative is taken for 0, to every order.

    A norm has no derivative at a vector of zeros. 0 is among its subgradients, and the chain rule
    through the root's infinite slope would make 0 times infinity of it.
    """
    if p == 1:
        return total
    nothing = b.op("Equal", total, b.like(0.0, total))
    safe = b.where(nothing, 1.0, total)
    y = b.op("Sqrt", safe) if p == 2 else b.op("Pow", safe, b.like(1.0 / p, safe))
    return b.where(nothing, 0.0, y)


def _fold_square(n: Numbers, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return _fold_sum(n, x * x, axes, keepdims)


def _fold_l2(n: Numbers, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return root(n, n.sum(x * x, axes, keepdims), 2)


def _fold_l1(n: Numbers, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return _fold_sum(n, n.abs(x) if n.is_number(x) else np.abs(x), axes, keepdims)


def fold_signs(
    n: Numbers, x: np.ndarray, axes: tuple[int, ...], keepdims: bool
) -> tuple[np.ndarray, np.ndarray]:
    """How near to 0 the nearest of the folded elements is, and a number for all their signs."""
    rows = _rows(n, x, axes)
    margin = np.min(np.abs(rows), axis=-1, initial=np.inf)
    weights = np.cumprod(
        np.full(rows.shape[-1], 0x9E3779B97F4A7C15, np.uint64)
    )  # odd: no two alike
    branch = np.sum((rows > 0) * weights, axis=-1)
    return _keep(n, margin, x, axes, keepdims), _keep(n, branch, x, axes, keepdims)


def fold_origin(
    n: Numbers, x: np.ndarray, axes: tuple[int, ...], keepdims: bool
) -> tuple[np.ndarray, np.ndarray]:
    """How far from a vector of zeros, where a norm is not smooth, and on which side of it.

    The sides are those of a plane through 0 in no special direction: there is no other jump, but
    what passes through 0 changes sides.
    """
    rows = _rows(n, x, axes)
    weights = 1.0 + np.arange(rows.shape[-1]) * GOLDEN % 1.0
    margin, branch = np.sqrt(np.sum(rows * rows, axis=-1)), np.sum(rows * weights, axis=-1) > 0
    return _keep(n, margin, x, axes, keepdims), _keep(n, branch, x, axes, keepdims)


GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def _kinks(
    fold: Callable[..., tuple[np.ndarray, np.ndarray]],
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    def kinks(
        n: Numbers, x: np.ndarray, axes: Any = None, **attrs: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        result: tuple[np.ndarray, np.ndarray] = _reduction(fold)(n, x, axes, **attrs)
        return result

    return kinks


def _fold_log(n: Numbers, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    return n.log(n.sum(x, axes, keepdims))


def _fold_logsumexp(n: Numbers, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    rows = _rows(n, x, axes)
    shift = n.anchor(rows, -1)
    y = n.log(n.sum(n.exp(rows - shift), (-1,), True)) + shift
    return _keep(n, n.reshape(y, y.shape[:-1]), x, axes, keepdims)


def _weights(s: Site) -> Var:
    """How much each element counts: a softmax over the folded axes; 0 where all are -inf."""
    nothing = s.b.op("Equal", s.y, s.b.like(-np.inf, s.y))
    return s.b.op("Exp", s.x - _spread(s, s.b.where(nothing, 0.0, s.y)))


def _logsumexp_jvp(s: Site, dots: Vars) -> Vars:
    return [None if dots[0] is None else _sum(s, _weights(s) * dots[0])]


def _logsumexp_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    return [_weights(s) * _spread(s, y_bar)]


def _norm(
    op: str, fold: Callable[..., Array], expand: Callable[[Site], Var], **facets: Any
) -> Card:
    return composite(
        op,
        _reduction(fold),
        lambda s: [expand(s)],
        inputs=INPUTS,
        infer=_infer,
        attrs=ATTRS,
        batch=_batch,
        flat=FLAT,
        **facets,
    )


# ---- where the extremum stands -------------------------------------------------------------------

ARG_ATTRS = {"axis": 0, "keepdims": 1, "select_last_index": 0}


def _arg_infer(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(DType.INT64, None)]
    axis = axis_of(s["axis"], s.x.rank)
    middle = (1,) if s["keepdims"] else ()
    return [(DType.INT64, (*s.x.shape[:axis], *middle, *s.x.shape[axis + 1 :]))]


def _arg(sign: int) -> Callable[..., Any]:
    def impl(
        n: Numbers, x: Array, *, axis: int, keepdims: int, select_last_index: int
    ) -> np.ndarray:
        axis = axis_of(axis, x.ndim)
        count = x.shape[axis]
        if not n.is_number(x):
            # Unsigned integers have no negative, and the least int64 has none either.
            find = np.argmax if sign > 0 else np.argmin
            values = np.flip(x, axis) if select_last_index else x
            at = np.asarray(find(values, axis=axis))
        else:
            values = x if sign > 0 else -x
            if select_last_index:
                values = n.take(values, np.arange(count)[::-1], axis)
            at = n.argmax(values, axis)
        at = count - 1 - at if select_last_index else at
        return np.expand_dims(at, axis) if keepdims else np.asarray(at)

    return impl


CARDS = (
    linear(
        "ReduceSum",
        _reduction(_fold_sum),
        _sum_transpose,
        inputs=INPUTS,
        infer=_infer,
        batch=_batch,
        attrs=ATTRS,
        flat=FLAT,
    ),
    linear(
        "ReduceMean",
        _reduction(_fold_mean),
        _mean_transpose,
        inputs=INPUTS,
        infer=_infer,
        batch=_batch,
        attrs=ATTRS,
        flat=FLAT,
    ),
    _extremum("ReduceMax", _fold_max, 1),
    _extremum("ReduceMin", _fold_min, -1),
    custom(
        "ReduceProd",
        _reduction(_fold_prod),
        _prod_jvp,
        _prod_vjp,
        inputs=INPUTS,
        infer=_infer,
        attrs=ATTRS,
        batch=_batch,
        flat=FLAT,
    ),
    _norm("ReduceSumSquare", _fold_square, lambda s: _sum(s, s.x * s.x)),
    _norm(
        "ReduceL2",
        _fold_l2,
        lambda s: graph_root(s.b, _sum(s, s.x * s.x), 2),
        kinks=_kinks(fold_origin),
        convention="0 at a vector of zeros",
    ),
    _norm(
        "ReduceL1",
        _fold_l1,
        lambda s: _sum(s, s.b.op("Abs", s.x)),
        kinks=_kinks(fold_signs),
        convention="0 at 0",
    ),
    _norm(
        "ReduceLogSum",
        _fold_log,
        lambda s: s.b.op("Log", _sum(s, s.x)),
        edges=lambda n, x, axes=None, **attrs: np.abs(_reduction(_fold_sum)(n, x, axes, **attrs)),
        edge="the logarithm of a sum that is 0",
    ),
    custom(
        "ReduceLogSumExp",
        _reduction(_fold_logsumexp),
        _logsumexp_jvp,
        _logsumexp_vjp,
        inputs=INPUTS,
        infer=_infer,
        attrs=ATTRS,
        batch=_batch,
        flat=FLAT,
        expand=lambda s: [s.b.op("Log", _sum(s, s.b.op("Exp", s.x)))],
    ),
    flat(
        "ArgMax",
        _arg(1),
        "the place of the greatest element jumps or stays",
        inputs=("data",),
        infer=_arg_infer,
        attrs=ARG_ATTRS,
    ),
    flat(
        "ArgMin",
        _arg(-1),
        "the place of the least element jumps or stays",
        inputs=("data",),
        infer=_arg_infer,
        attrs=ARG_ATTRS,
    ),
)
