"""Matrix products: MatMul with NumPy's broadcasting, Gemm, Einsum; and the determinant."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from gradcli.errors import UnsupportedError
from gradcli.graph import Builder, Dim, Type, Var, broadcast
from gradcli.numbers import Array, Numbers
from gradcli.ops.card import Site, Vars
from gradcli.ops.einsum import EINSUM
from gradcli.ops.kinds import bilinear, custom, lead


def swap(b: Builder, x: Var) -> Var:
    """x with its last two axes exchanged."""
    return b.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


def _agree(inner: Dim, other: Dim) -> None:
    if isinstance(inner, int) and isinstance(other, int) and inner != other:
        raise ValueError(f"a matrix product of {inner} columns with {other} rows")


# ---- MatMul --------------------------------------------------------------------------------------


def matmul_types(s: Site) -> Sequence[Type]:
    """The type of the matrix product of the first two operands."""
    a, b = s.x.shape, s.x1.shape
    if a is None or b is None:
        return [(s.x.dtype, None)]
    if not a or not b:
        raise ValueError("a matrix product needs at least one axis on either side")
    _agree(a[-1], b[-2] if len(b) > 1 else b[0])
    stack = broadcast(a[:-2], b[:-2])
    assert stack is not None
    return [(s.x.dtype, (*stack, *a[-2:-1], *(b[-1:] if len(b) > 1 else ())))]


def _matmul(n: Numbers, a: Array, b: Array) -> Array:
    if b.ndim == 2 and a.ndim > 2:
        # One product of tall matrices costs less than a stack of low ones.
        y = n.matmul(n.reshape(a, (-1, a.shape[-1])), b)
        return n.reshape(y, (*a.shape[:-1], b.shape[-1]))
    rows = n.reshape(a, (1, -1)) if a.ndim == 1 else a
    columns = n.reshape(b, (-1, 1)) if b.ndim == 1 else b
    y = n.matmul(rows, columns)
    shape = (
        *y.shape[:-2],
        *(y.shape[-2:-1] if a.ndim > 1 else ()),
        *(y.shape[-1:] if b.ndim > 1 else ()),
    )
    return n.reshape(y, shape)


def _as_matrices(s: Site, y_bar: Var) -> tuple[Var, Var, Var]:
    """Both operands and the result with the axes of size 1 that a vector operand leaves out."""
    a, b = s.x, s.x1
    if b.rank == 1:
        y_bar = s.b.unsqueeze(y_bar, [y_bar.rank])
        b = s.b.unsqueeze(b, [1])
    if a.rank == 1:
        y_bar = s.b.unsqueeze(y_bar, [y_bar.rank - 1])
        a = s.b.unsqueeze(a, [0])
    return a, b, y_bar


def _matmul_in_a(s: Site, y_bar: Var) -> Var:
    a, b, y_bar = _as_matrices(s, y_bar)
    a_bar = s.b.op("MatMul", y_bar, swap(s.b, b))
    return s.b.reshape_like(s.b.unbroadcast(a_bar, like=a), s.x)


def _matmul_in_b(s: Site, y_bar: Var) -> Var:
    a, b, y_bar = _as_matrices(s, y_bar)
    if b.rank == 2 and a.rank > 2:
        # One matrix for a whole stack: the product sums over the stack too, so that no stack of
        # cotangents of b is ever made.
        a, y_bar = (s.b.op("Flatten", x, axis=x.rank - 1) for x in (a, y_bar))
    b_bar = s.b.op("MatMul", swap(s.b, a), y_bar)
    return s.b.reshape_like(s.b.unbroadcast(b_bar, like=b), s.x1)


def _matmul_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    a, b = s.x, s.x1
    on_a, on_b = map(int, batched)
    row, column = a.rank - on_a == 1, b.rank - on_b == 1
    if row:
        a = s.b.unsqueeze(a, [on_a])
    if column:
        b = s.b.unsqueeze(b, [b.rank])
    rank = max(a.rank - on_a, b.rank - on_b)
    y = s.b.op("MatMul", lead(s.b, a, rank) if on_a else a, lead(s.b, b, rank) if on_b else b)
    gone = [axis for axis, vector in ((-2, row), (-1, column)) if vector]
    return [s.b.op("Squeeze", y, s.b.ints(gone)) if gone else y]


# ---- Gemm ----------------------------------------------------------------------------------------


def _gemm_types(s: Site) -> Sequence[Type]:
    a, b = s.x.shape, s.x1.shape
    if (a is not None and len(a) != 2) or (b is not None and len(b) != 2):
        raise ValueError(f"Gemm of operands that are not matrices: {a} and {b}")
    m, inner = (None, None) if a is None else a[::-1] if s["transA"] else a
    other, n = (None, None) if b is None else b[::-1] if s["transB"] else b
    if inner is not None and other is not None:
        _agree(inner, other)
    return [(s.x.dtype, tuple(s.b.fresh(1)[0] if d is None else d for d in (m, n)))]


def _gemm(
    n: Numbers,
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    alpha: float,
    beta: float,
    transA: int,
    transB: int,
) -> Array:
    y = n.matmul(n.transpose(a, (1, 0)) if transA else a, n.transpose(b, (1, 0)) if transB else b)
    if alpha != 1:
        y = y * alpha
    if c is None:
        return y
    return y + (c if beta == 1 else c * beta)


def _gemm_in_a(s: Site, y_bar: Var) -> Var:
    how = {"alpha": s["alpha"], "transB": 1}
    if s["transA"]:
        return s.b.op("Gemm", s.x1, y_bar, transA=s["transB"], **how)
    return s.b.op("Gemm", y_bar, s.x1, **{**how, "transB": 1 - s["transB"]})


def _gemm_in_b(s: Site, y_bar: Var) -> Var:
    how = {"alpha": s["alpha"], "transA": 1}
    if s["transB"]:
        return s.b.op("Gemm", y_bar, s.x, transB=s["transA"], **how)
    return s.b.op("Gemm", s.x, y_bar, **{**how, "transA": 1 - s["transA"]})


def _gemm_batch(s: Site, batched: Sequence[bool]) -> Sequence[Var]:
    a = swap(s.b, s.x) if s["transA"] else s.x
    b = swap(s.b, s.x1) if s["transB"] else s.x1
    y = s.b.op("MatMul", a, b) * s["alpha"]
    if s.has(2):
        c = s.input(2) * s["beta"]
        y = y + (lead(s.b, c, 2) if batched[2] else c)
    return [y]


# ---- Det -----------------------------------------------------------------------------------------

FEW = 6
"""Rows up to which a determinant is a sum of minors: no division, and 2^rows of them."""

MOST = 64
"""Rows up to which cofactors are taken one by one: they are rows^2 determinants."""


def _det_types(s: Site) -> Sequence[Type]:
    if s.x.shape is None:
        return [(s.x.dtype, None)]
    if len(s.x.shape) < 2:
        raise ValueError(f"the determinant of {len(s.x.shape)} dimensions")
    rows, columns = s.x.shape[-2:]
    if isinstance(rows, int) and isinstance(columns, int) and rows != columns:
        raise ValueError(f"the determinant of {rows} rows and {columns} columns")
    return [(s.x.dtype, s.x.shape[:-2])]


def _det(n: Numbers, x: Array) -> Array:
    return _det_by_minors(n, x) if x.shape[-1] <= FEW else _det_by_elimination(n, x)


def _det_by_minors(n: Numbers, x: Array) -> Array:
    """Laplace's expansion, row by row from the last, over every choice of columns."""
    stack, count = x.shape[:-2], x.shape[-1]
    whole = [slice(None)] * len(stack)

    def element(i: int, j: int) -> Array:
        return n.reshape(n.slice(x, [*whole, slice(i, i + 1), slice(j, j + 1)]), stack)

    minors: dict[tuple[int, ...], Array] = {(): n.full(stack, 1.0)}
    for row in reversed(range(count)):
        wider = {}
        for columns in combinations(range(count), count - row):
            total = n.full(stack, 0.0)
            for k, column in enumerate(columns):
                term = element(row, column) * minors[(*columns[:k], *columns[k + 1 :])]
                total = total - term if k % 2 else total + term
            wider[columns] = total
        minors = wider
    return minors[tuple(range(count))]


def _det_by_elimination(n: Numbers, x: Array) -> Array:
    """The product of pivots, each the greatest of its column."""
    rows, one = n.reshape(x, (-1, *x.shape[-2:])), n.full((), 1.0)
    whole = slice(None)
    y = n.full(rows.shape[:1], 1.0)
    while count := rows.shape[-1]:
        # Which row is taken first changes nothing but the sign, and the rounding.
        sizes = np.abs(n.lower(n.slice(rows, [whole, whole, slice(0, 1)])))[..., 0]
        first = np.argmax(sizes, axis=1)
        order = np.tile(np.arange(count), (len(first), 1))
        order[np.arange(len(first)), first] = 0
        order[:, 0] = first
        rows = n.take_along(rows, np.broadcast_to(order[:, :, None], rows.shape), 1)
        top, rest = (n.slice(rows, [whole, cut]) for cut in (slice(0, 1), slice(1, count)))
        pivot = n.slice(top, [whole, whole, slice(0, 1)])
        y = y * n.reshape(pivot, (-1,)) * n.lift(np.where(first == 0, 1.0, -1.0))
        divisor = n.where(n.lower(pivot) == 0, one, pivot)
        factor = n.slice(rest, [whole, whole, slice(0, 1)]) / divisor
        rows = n.slice(rest - factor * top, [whole, whole, slice(1, count)])
    return n.reshape(y, x.shape[:-2])


def _cofactors(s: Site) -> Var:
    """d det / dx, elementwise: signed determinants of what is left without a row and a column.

    The inverse would say it in one matrix, det * inverse transposed, but has none of what a
    singular matrix has.
    """
    b, x = s.b, s.x
    count = next((d for d in (x.shape or ())[-2:] if isinstance(d, int)), None)
    if count is None:
        raise UnsupportedError(
            "Det of a number of rows that is known only at run time",
            "give the input's shape, so that the graph can be specialised to it",
        )
    if count > MOST:
        raise UnsupportedError(f"the derivative of Det of more than {MOST} rows: here {count}")
    if count < 2:
        return b.full_like(x, 1.0)
    others = np.array([[k for k in range(count) if k != i] for i in range(count)], np.int64)
    table, stack = b.constant(others), x.rank - 2
    # First [..., i, rows, j, columns], for what is left without row i and column j.
    minors = b.op("Gather", b.op("Gather", x, table, axis=stack), table, axis=stack + 2)
    minors = b.transpose(minors, [*range(stack), stack, stack + 2, stack + 1, stack + 3])
    signs = (-1.0) ** np.add.outer(np.arange(count), np.arange(count))
    return b.op("Det", minors) * b.constant(signs, x.dtype)


def _det_jvp(s: Site, dots: Vars) -> Vars:
    (x_dot,) = dots
    if x_dot is None:
        return [None]
    return [s.b.sum(_cofactors(s) * x_dot, axes=[s.x.rank - 2, s.x.rank - 1], keepdims=False)]


def _det_vjp(s: Site, bars: Vars) -> Vars:
    (y_bar,) = bars
    assert y_bar is not None
    return [_cofactors(s) * s.b.unsqueeze(y_bar, [s.x.rank - 2, s.x.rank - 1])]


CARDS = (
    bilinear(
        "MatMul",
        _matmul,
        (_matmul_in_a, _matmul_in_b),
        inputs=("A", "B"),
        infer=matmul_types,
        batch=_matmul_batch,
    ),
    bilinear(
        "Gemm",
        _gemm,
        (_gemm_in_a, _gemm_in_b),
        inputs=("A", "B", "C?"),
        infer=_gemm_types,
        batch=_gemm_batch,
        bias=lambda s, c_dot: s.b.expand_like(c_dot * s["beta"], s.y),
        unbias=lambda s, y_bar: s.b.unbroadcast(y_bar * s["beta"], like=s.input(2)),
        attrs={"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0},
    ),
    EINSUM,
    custom("Det", _det, _det_jvp, _det_vjp, inputs=("X",), infer=_det_types),
)
