"""The number system of factored symbolic differentiation: arrays that carry their tangents.

An `impl` runs over it as over any other number system. What acts on each element alone is
differentiated by SymPy, from its expression; what only moves or adds elements is linear, so its
derivative is that very operation on the tangents; a product of matrices is linear in each factor;
a maximum picks an element, and its derivative picks the same. No rule of any card takes part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from gradcli.engines.symbolic.local import Locals
from gradcli.errors import CannotError
from gradcli.numbers import Array, Mask, Numbers, real


class Dual:
    """Float64 numbers x, and x_dot [B, *x.shape]: their tangents in B directions."""

    # NumPy leaves `array + dual` to us.
    __array_ufunc__ = None
    __slots__ = ("n", "x", "x_dot")

    def __init__(self, n: Tangents, x: np.ndarray, x_dot: np.ndarray) -> None:
        self.n = n
        self.x = x
        self.x_dot = x_dot

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the numbers."""
        return self.x.shape

    @property
    def ndim(self) -> int:
        """Of the numbers."""
        return self.x.ndim

    @property
    def size(self) -> int:
        """How many numbers."""
        return self.x.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self.x.dtype

    def __add__(self, other: Any) -> Array:
        return self.n.each("+", lambda _, a, b: a + b, self, other)

    def __radd__(self, other: Any) -> Array:
        return self.n.each("+", lambda _, a, b: a + b, other, self)

    def __sub__(self, other: Any) -> Array:
        return self.n.each("-", lambda _, a, b: a - b, self, other)

    def __rsub__(self, other: Any) -> Array:
        return self.n.each("-", lambda _, a, b: a - b, other, self)

    def __mul__(self, other: Any) -> Array:
        return self.n.each("*", lambda _, a, b: a * b, self, other)

    def __rmul__(self, other: Any) -> Array:
        return self.n.each("*", lambda _, a, b: a * b, other, self)

    def __truediv__(self, other: Any) -> Array:
        return self.n.each("/", lambda _, a, b: a / b, self, other)

    def __rtruediv__(self, other: Any) -> Array:
        return self.n.each("/", lambda _, a, b: a / b, other, self)

    def __neg__(self) -> Array:
        return self.n.each("neg", lambda _, a: -a, self)


def _times(slope: np.ndarray, x_dot: np.ndarray) -> np.ndarray:
    """Tangents times a slope; what does not move does not, however infinite the slope is."""
    product = slope * x_dot
    return product if np.all(np.isfinite(slope)) else np.where(x_dot == 0, 0.0, product)


def primal(x: Any) -> Any:
    """The numbers without their tangents."""
    return x.x if isinstance(x, Dual) else x


class Tangents(Numbers):
    """Float64 numbers, of which some carry tangents in B directions.

    Args:
        count: B.
        known: Derivatives of elementwise operations made so far, and where new ones go.
    """

    name = "tangents"
    dtype = np.dtype(np.float64)

    def __init__(self, count: int, known: Locals) -> None:
        self.count = count
        self.known = known

    # ---- in and out -----------------------------------------------------------------------------

    def lift(self, array: Any) -> Array:
        return array if isinstance(array, Dual) else real.lift(array)

    def lower(self, x: Array) -> np.ndarray:
        return real.lower(primal(x))

    def is_number(self, x: Array) -> bool:
        return isinstance(x, Dual) or super().is_number(x)

    def to_integer(self, x: Array, dtype: np.dtype[Any]) -> np.ndarray:
        return real.to_integer(primal(x), dtype)

    # ---- elementwise: SymPy's derivative --------------------------------------------------------

    def each(self, name: str, impl: Callable[..., Any], *operands: Any, **attrs: Any) -> Any:
        """A function of each element alone: its tangents by the partials that SymPy finds."""
        numbers = [primal(x) for x in operands]
        y = impl(real, *numbers, **attrs)
        if not any(isinstance(x, Dual) for x in operands):
            return y
        made, places = self.known.get(name, impl, operands, attrs)
        arguments = [numbers[k] for k in places]
        y_dot: Any = None
        for argument, k in enumerate(places):
            x = operands[k]
            if isinstance(x, Dual):
                slope = made.partial(argument)
                term = self.aligned(x, y.ndim)
                if callable(slope):
                    term = _times(slope(*arguments), term)
                elif slope == 0:
                    continue
                elif slope != 1:
                    term = slope * term
                y_dot = term if y_dot is None else y_dot + term
        return y if y_dot is None else self._dual(np.asarray(y), y_dot)

    def aligned(self, x: Dual, rank: int) -> np.ndarray:
        """Tangents with 1s after the directions, so that the rest has this rank."""
        missing = rank - x.ndim
        return x.x_dot.reshape(self.count, *(1,) * missing, *x.shape) if missing > 0 else x.x_dot

    def _dual(self, y: np.ndarray, y_dot: np.ndarray) -> Dual:
        whole = (self.count, *y.shape)
        return Dual(self, y, y_dot if y_dot.shape == whole else np.broadcast_to(y_dot, whole))

    def exp(self, x: Array) -> Array:
        return self.each("exp", lambda n, x: n.exp(x), x)

    def log(self, x: Array) -> Array:
        return self.each("log", lambda n, x: n.log(x), x)

    def log1p(self, x: Array) -> Array:
        return self.each("log1p", lambda n, x: n.log1p(x), x)

    def expm1(self, x: Array) -> Array:
        return self.each("expm1", lambda n, x: n.expm1(x), x)

    def sqrt(self, x: Array) -> Array:
        return self.each("sqrt", lambda n, x: n.sqrt(x), x)

    def tanh(self, x: Array) -> Array:
        return self.each("tanh", lambda n, x: n.tanh(x), x)

    def sigmoid(self, x: Array) -> Array:
        return self.each("sigmoid", lambda n, x: n.sigmoid(x), x)

    def erf(self, x: Array) -> Array:
        return self.each("erf", lambda n, x: n.erf(x), x)

    def erfc(self, x: Array) -> Array:
        return self.each("erfc", lambda n, x: n.erfc(x), x)

    def sin(self, x: Array) -> Array:
        return self.each("sin", lambda n, x: n.sin(x), x)

    def cos(self, x: Array) -> Array:
        return self.each("cos", lambda n, x: n.cos(x), x)

    def tan(self, x: Array) -> Array:
        return self.each("tan", lambda n, x: n.tan(x), x)

    def asin(self, x: Array) -> Array:
        return self.each("asin", lambda n, x: n.asin(x), x)

    def acos(self, x: Array) -> Array:
        return self.each("acos", lambda n, x: n.acos(x), x)

    def atan(self, x: Array) -> Array:
        return self.each("atan", lambda n, x: n.atan(x), x)

    def sinh(self, x: Array) -> Array:
        return self.each("sinh", lambda n, x: n.sinh(x), x)

    def cosh(self, x: Array) -> Array:
        return self.each("cosh", lambda n, x: n.cosh(x), x)

    def asinh(self, x: Array) -> Array:
        return self.each("asinh", lambda n, x: n.asinh(x), x)

    def acosh(self, x: Array) -> Array:
        return self.each("acosh", lambda n, x: n.acosh(x), x)

    def atanh(self, x: Array) -> Array:
        return self.each("atanh", lambda n, x: n.atanh(x), x)

    def power(self, x: Array, y: Array) -> Array:
        return self.each("power", lambda n, x, y: n.power(x, y), x, y)

    def sign(self, x: Array) -> Array:
        return real.sign(primal(x))

    def floor(self, x: Array) -> Array:
        return real.floor(primal(x))

    def round_to(self, x: Array, dtype: np.dtype[Any]) -> Array:
        if isinstance(x, Dual):
            raise CannotError(
                f"rounding to {dtype} is a staircase: there is nothing to differentiate"
            )
        return real.round_to(x, dtype)

    def divide(self, x: Array, y: Array) -> Array:
        return x / y if isinstance(x, Dual) or isinstance(y, Dual) else real.divide(x, y)

    # ---- comparisons and choice -----------------------------------------------------------------

    def less(self, x: Array, y: Array) -> Mask:
        return real.less(primal(x), primal(y))

    def equal(self, x: Array, y: Array) -> Mask:
        return real.equal(primal(x), primal(y))

    def where(self, mask: Mask, x: Array, y: Array) -> Array:
        chosen = np.asarray(real.where(mask, primal(x), primal(y)))
        if not isinstance(x, Dual) and not isinstance(y, Dual):
            return chosen
        dots = [self.aligned(v, chosen.ndim) if isinstance(v, Dual) else 0.0 for v in (x, y)]
        return self._dual(chosen, np.where(mask, *dots))

    def logical_not(self, mask: Mask) -> Mask:
        return real.logical_not(mask)

    def logical_and(self, a: Mask, b: Mask) -> Mask:
        return real.logical_and(a, b)

    def logical_or(self, a: Mask, b: Mask) -> Mask:
        return real.logical_or(a, b)

    def mask_to_number(self, mask: Mask) -> Array:
        return real.mask_to_number(mask)

    # ---- reductions and products ----------------------------------------------------------------

    def sum(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if not isinstance(x, Dual):
            return real.sum(x, axes, keepdims)
        moved = [a % x.ndim + 1 for a in axes]
        return self._dual(
            np.asarray(real.sum(x.x, axes, keepdims)), real.sum(x.x_dot, moved, keepdims)
        )

    def max(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if not isinstance(x, Dual):
            return real.max(x, axes, keepdims)
        axes = tuple(a % x.ndim for a in axes)
        rest = tuple(a for a in range(x.ndim) if a not in axes)
        kept = tuple(x.shape[a] for a in rest)
        rows = self.reshape(self.transpose(x, (*rest, *axes)), (*kept, -1))
        top = self.take_along(rows, self.argmax(rows, -1)[..., None], -1)
        return self.reshape(
            top, tuple(1 if a in axes else d for a, d in enumerate(x.shape)) if keepdims else kept
        )

    def argmax(self, x: Array, axis: int) -> np.ndarray:
        return real.argmax(primal(x), axis)

    def argsort(self, x: Array, axis: int) -> np.ndarray:
        return real.argsort(primal(x), axis)

    def anchor(self, x: Array, axis: int) -> Array:
        return real.anchor(primal(x), axis)

    def matmul(self, a: Array, b: Array) -> Array:
        y = real.matmul(primal(a), primal(b))
        rank = max(a.ndim, b.ndim, 2)
        if min(a.ndim, b.ndim) < 2 and (isinstance(a, Dual) or isinstance(b, Dual)):
            raise NotImplementedError("a product of vectors that carry tangents")
        y_dot: Any = None
        if isinstance(a, Dual):
            y_dot = _product(self.aligned(a, rank), primal(b))
        if isinstance(b, Dual):
            term = np.matmul(primal(a), self.aligned(b, rank))
            y_dot = term if y_dot is None else y_dot + term
        return y if y_dot is None else self._dual(y, y_dot)

    # ---- structure: the same on the numbers and on the tangents of each direction ---------------

    def _moved(self, x: Array, move: Callable[[np.ndarray, int], np.ndarray]) -> Array:
        """A rearrangement, told how many axes stand before those that it means."""
        if not isinstance(x, Dual):
            return move(x, 0)
        return Dual(self, move(x.x, 0), move(x.x_dot, 1))

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        y = super().reshape(primal(x), shape)
        return Dual(self, y, x.x_dot.reshape(self.count, *y.shape)) if isinstance(x, Dual) else y

    def transpose(self, x: Array, perm: Sequence[int]) -> Array:
        rank = len(perm)
        return self._moved(
            x, lambda v, k: np.transpose(v, (*range(k), *(p % rank + k for p in perm)))
        )

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        y = super().broadcast_to(primal(x), shape)
        return self._dual(y, self.aligned(x, y.ndim)) if isinstance(x, Dual) else y

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        if not any(isinstance(x, Dual) for x in parts):
            return super().concat(parts, axis)
        whole = [self.with_tangents(x) for x in parts]
        axis %= whole[0].ndim
        return Dual(
            self,
            np.concatenate([x.x for x in whole], axis),
            np.concatenate([x.x_dot for x in whole], axis + 1),
        )

    def with_tangents(self, x: Array) -> Dual:
        """x, with tangents of 0 where it carries none."""
        if isinstance(x, Dual):
            return x
        return Dual(self, x, np.broadcast_to(np.zeros(()), (self.count, *x.shape)))

    def take(self, x: Array, indices: np.ndarray, axis: int) -> Array:
        rank = x.ndim
        return self._moved(x, lambda v, k: np.take(v, indices, axis=axis % rank + k))

    def take_along(self, x: Array, indices: np.ndarray, axis: int) -> Array:
        rank = x.ndim
        return self._moved(
            x, lambda v, k: np.take_along_axis(v, indices[None] if k else indices, axis % rank + k)
        )

    def slice(self, x: Array, cuts: Sequence[slice]) -> Array:
        return self._moved(x, lambda v, k: v[(*(slice(None),) * k, *cuts)])

    def pad(self, x: Array, widths: Sequence[tuple[int, int]], fill: Array) -> Array:
        if not isinstance(x, Dual) and not isinstance(fill, Dual):
            return super().pad(x, widths, fill)
        x, fill = (
            self.with_tangents(x),
            self.with_tangents(np.asarray(fill) if isinstance(fill, float) else fill),
        )
        y = real.pad(x.x, widths, fill.x)
        y_dot = np.empty((self.count, *y.shape))
        y_dot[...] = fill.x_dot.reshape(self.count, *(1,) * y.ndim)
        inner = (slice(a, a + d) for d, (a, _) in zip(x.shape, widths, strict=True))
        y_dot[(slice(None), *inner)] = x.x_dot
        return Dual(self, y, y_dot)

    def windows(
        self, x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        return self._moved(x, lambda v, _: real.windows(v, kernel, strides, dilations))

    def overlap_add(
        self, x: Array, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        return self._moved(x, lambda v, _: real.overlap_add(v, sizes, strides, dilations))

    def scatter(
        self, x: Array, places: tuple[np.ndarray, ...], updates: Array, reduction: str
    ) -> Array:
        if not isinstance(x, Dual) and not isinstance(updates, Dual):
            return super().scatter(x, places, updates, reduction)
        x, updates = self.with_tangents(x), self.with_tangents(updates)
        y = real.scatter(x.x, places, updates.x, reduction)
        behind: Any = (slice(None), *places)
        rank = np.ndim(y[places])
        return Dual(self, y, real.scatter(x.x_dot, behind, self.aligned(updates, rank), reduction))


def _product(a_dot: np.ndarray, b: np.ndarray) -> np.ndarray:
    if b.ndim > 2:
        return np.asarray(np.matmul(a_dot, b))
    # One product of a tall matrix costs less than one for each direction.
    rows = a_dot.reshape(-1, a_dot.shape[-1])
    return np.asarray(np.matmul(rows, b).reshape(*a_dot.shape[:-1], b.shape[-1]))


def duals(
    n: Tangents, point: dict[str, np.ndarray], directions: Iterable[tuple[str, np.ndarray]]
) -> dict[str, Any]:
    """Inputs of a graph, those that have directions as duals."""
    given: dict[str, Any] = {name: n.lift(np.asarray(x)) for name, x in point.items()}
    for name, x_dot in directions:
        given[name] = Dual(n, given[name], np.asarray(x_dot, np.float64))
    return given
