"""The two machine systems: `real` (float64) and `complex` (complex128, for the complex step)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from gradcli.numbers.base import Array, Mask, Numbers, is_float


class _Machine(Numbers):
    """What float64 and complex128 share: NumPy does it, and comparisons look at the real part."""

    def lift(self, array: np.ndarray) -> Array:
        """Floats (of any width, ml_dtypes' too) as numbers, exactly; other tensors as they are."""
        array = np.asarray(array)
        if is_float(array.dtype) or array.dtype.kind == self.dtype.kind:
            return array.astype(self.dtype, copy=False)
        return array

    def lower(self, x: Array) -> np.ndarray:
        """The array itself."""
        return np.asarray(x)

    @cached_property
    def _special(self) -> Any:
        # scipy.special takes half a second to import; only erf and its kin need it.
        import scipy.special

        return scipy.special

    def exp(self, x: Array) -> Array:
        return np.exp(x)

    def log(self, x: Array) -> Array:
        return np.log(x)

    def log1p(self, x: Array) -> Array:
        return np.log1p(x)

    def expm1(self, x: Array) -> Array:
        return np.expm1(x)

    def sqrt(self, x: Array) -> Array:
        return np.sqrt(x)

    def tanh(self, x: Array) -> Array:
        return np.tanh(x)

    def sin(self, x: Array) -> Array:
        return np.sin(x)

    def cos(self, x: Array) -> Array:
        return np.cos(x)

    def erf(self, x: Array) -> Array:
        return self._special.erf(x)

    def erfc(self, x: Array) -> Array:
        return self._special.erfc(x)

    def power(self, x: Array, y: Array) -> Array:
        return np.power(x, y)

    def less(self, x: Array, y: Array) -> Mask:
        return np.less(np.real(x), np.real(y))

    def equal(self, x: Array, y: Array) -> Mask:
        if self.is_number(x) or self.is_number(y):
            return np.equal(np.real(x), np.real(y))
        return np.equal(x, y).astype(bool)

    def where(self, mask: Mask, x: Array, y: Array) -> Array:
        return np.where(mask, x, y)

    def logical_not(self, mask: Mask) -> Mask:
        return np.logical_not(mask)

    def logical_and(self, a: Mask, b: Mask) -> Mask:
        return np.logical_and(a, b)

    def logical_or(self, a: Mask, b: Mask) -> Mask:
        return np.logical_or(a, b)

    def mask_to_number(self, mask: Mask) -> Array:
        return np.asarray(mask).astype(self.dtype)

    def to_integer(self, x: Array, dtype: np.dtype[Any]) -> np.ndarray:
        return np.asarray(np.real(x).astype(dtype))

    def sum(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        return np.sum(x, axis=tuple(axes), keepdims=keepdims)

    def argmax(self, x: Array, axis: int) -> np.ndarray:
        return np.asarray(np.argmax(np.real(x), axis=axis))

    def anchor(self, x: Array, axis: int) -> Array:
        top = np.max(np.real(x), axis=axis, keepdims=True, initial=-np.inf)
        return np.where(np.isfinite(top), top, 0.0).astype(self.dtype)

    def matmul(self, a: Array, b: Array) -> Array:
        return np.matmul(a, b)


class Real(_Machine):
    """IEEE float64, round to nearest."""

    name = "real"
    dtype = np.dtype(np.float64)

    def sigmoid(self, x: Array) -> Array:
        e = np.exp(-np.abs(x))
        return np.where(x >= 0, 1.0, e) / (1.0 + e)

    def sign(self, x: Array) -> Array:
        return np.sign(x)

    def floor(self, x: Array) -> Array:
        return np.floor(x)

    def round_to(self, x: Array, dtype: np.dtype[Any]) -> Array:
        return x.astype(dtype).astype(self.dtype)

    def abs(self, x: Array) -> Array:
        return np.abs(x)

    def maximum(self, x: Array, y: Array) -> Array:
        return np.maximum(x, y)

    def minimum(self, x: Array, y: Array) -> Array:
        return np.minimum(x, y)

    def max(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        return np.max(x, axis=tuple(axes), keepdims=keepdims, initial=-np.inf)


class Complex(_Machine):
    """Complex128, for differentiating along the imaginary axis.

    Operators that are analytic piece by piece stay so: choices (comparisons, maxima, absolute
    values) are made by the real part, and the chosen branch is continued analytically.
    """

    name = "complex"
    dtype = np.dtype(np.complex128)

    def sigmoid(self, x: Array) -> Array:
        right = np.real(x) >= 0
        e = np.exp(np.where(right, -x, x))
        return np.where(right, 1.0, e) / (1.0 + e)

    def sign(self, x: Array) -> Array:
        return np.sign(np.real(x)).astype(self.dtype)

    def floor(self, x: Array) -> Array:
        return np.floor(np.real(x)).astype(self.dtype)

    def round_to(self, x: Array, dtype: np.dtype[Any]) -> Array:
        return np.real(x).astype(dtype).astype(self.dtype)

    def power(self, x: Array, y: Array) -> Array:
        # NumPy takes the branch of a negative base off the real line; an integer exponent has none.
        exponent = np.real(y)
        whole = (np.imag(y) == 0) & (exponent == np.round(exponent)) & (np.abs(exponent) < 64)
        if np.all(whole):
            return _integer_power(np.asarray(x, self.dtype), exponent)
        return np.where(
            whole, _integer_power(np.asarray(x, self.dtype), exponent * whole), np.power(x, y)
        )

    def max(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        axes = tuple(a % x.ndim for a in axes)
        rest = tuple(a for a in range(x.ndim) if a not in axes)
        flat = np.transpose(x, (*rest, *axes)).reshape(*(x.shape[a] for a in rest), -1)
        top = np.take_along_axis(flat, np.argmax(flat.real, axis=-1)[..., None], axis=-1)[..., 0]
        return np.expand_dims(top, axes) if keepdims else top


def _integer_power(x: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """x to whole exponents below 64 in size, by squaring: exact in sign, analytic in x."""
    x, exponent = np.broadcast_arrays(x, exponent)
    left = np.abs(exponent).astype(np.int64)
    out, square = np.ones(x.shape, x.dtype), x
    while np.any(left):
        out = np.where(left & 1, out * square, out)
        left = left >> 1
        square = square * square if np.any(left) else square
    return np.where(exponent < 0, 1.0 / out, out)


real = Real()
complex_ = Complex()
