"""The two machine systems: `real` (float64) and `complex` (complex128, for the complex step)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from gradcli.numbers.base import Array, Mask, Numbers, is_float

_FAR = 64.0
"""Where exp(-x^2) is 0 in float64, and stays it."""

_MANY = 16
"""Columns from which on looking at a factor pays."""


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

    def softplus(self, x: Array) -> Array:
        left = np.real(x) < 0
        rest = self.log1p(np.exp(np.where(left, x, -x)))  # which does not overflow
        return np.where(left, rest, x + rest)

    def sin(self, x: Array) -> Array:
        return np.sin(x)

    def cos(self, x: Array) -> Array:
        return np.cos(x)

    def tan(self, x: Array) -> Array:
        return np.tan(x)

    def asin(self, x: Array) -> Array:
        return np.arcsin(x)

    def acos(self, x: Array) -> Array:
        return np.arccos(x)

    def atan(self, x: Array) -> Array:
        return np.arctan(x)

    def sinh(self, x: Array) -> Array:
        return np.sinh(x)

    def cosh(self, x: Array) -> Array:
        return np.cosh(x)

    def asinh(self, x: Array) -> Array:
        return np.arcsinh(x)

    def acosh(self, x: Array) -> Array:
        return np.arccosh(x)

    def atanh(self, x: Array) -> Array:
        return np.arctanh(x)

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

    def argsort(self, x: Array, axis: int) -> np.ndarray:
        keys = np.real(x) if self.is_number(x) else x
        return np.asarray(np.argsort(keys, axis=axis, kind="stable"))

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

    def erfc(self, x: Array) -> Array:
        # SciPy's loses three digits in the tail, where exp(-x^2) magnifies the rounding of x^2.
        right = np.clip(x, 1.0, _FAR)
        tail = _gauss(np.asarray(right)) * self._special.erfcx(right)
        return np.where(x > 1.0, tail, self._special.erfc(x))

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
        return _max(x, tuple(axes), keepdims)


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

    def log(self, x: Array) -> Array:
        return np.where(np.real(x) < 0, np.nan, np.log(x))

    def sqrt(self, x: Array) -> Array:
        return np.where(np.real(x) < 0, np.nan, np.sqrt(x))

    def asin(self, x: Array) -> Array:
        return np.where(np.abs(np.real(x)) > 1, np.nan, np.arcsin(x))

    def acos(self, x: Array) -> Array:
        return np.where(np.abs(np.real(x)) > 1, np.nan, np.arccos(x))

    def acosh(self, x: Array) -> Array:
        return np.where(np.real(x) < 1, np.nan, np.arccosh(x))

    def atanh(self, x: Array) -> Array:
        return np.where(np.abs(np.real(x)) > 1, np.nan, np.arctanh(x))

    def log1p(self, x: Array) -> Array:
        # NumPy rounds 1 + x first. |1 + x| = (1 + re) * sqrt(1 + (im / (1 + re))^2).
        re, im = np.real(x), np.imag(x)
        size = np.log1p(re) + 0.5 * np.log1p(np.square(im / (1.0 + re)))
        return size + 1j * np.arctan2(im, 1.0 + re)

    def erf(self, x: Array) -> Array:
        # erf(-x) = -erf(x); past 1 its complement has the more exact imaginary part.
        left = np.real(x) < 0
        z = np.where(left, -x, x)
        return np.where(left, -1.0, 1.0) * np.where(
            z.real < 1.0, self._special.erf(z), 1.0 - self._tail(z)
        )

    def erfc(self, x: Array) -> Array:
        left = np.real(x) < 0
        tail = self._tail(np.where(left, -x, x))
        wide = np.where(left, 2.0 - tail, tail)
        return np.where(np.abs(np.real(x)) < 1.0, self._special.erfc(x), wide)

    def _tail(self, z: np.ndarray) -> np.ndarray:
        """erfc(z) = exp(-z^2) w(iz), with w the Faddeeva function, right of 0."""
        re, im = np.clip(np.real(z), 0.0, _FAR), np.imag(z)
        gauss = _gauss(re) * np.exp(im * im - 2j * re * im)
        return np.asarray(gauss * self._special.wofz(1j * re - im))

    def matmul(self, a: Array, b: Array) -> Array:
        # A convolution's weights are real. Then (re, im) pairs are two real columns each, and the
        # product costs half of what BLAS's complex one does.
        if self.is_number(b) and b.ndim > 1 and b.shape[-1] >= _MANY and not np.any(np.imag(a)):
            pairs = np.ascontiguousarray(b).view(np.float64)
            return np.matmul(np.ascontiguousarray(np.real(a)), pairs).view(self.dtype)
        return np.matmul(a, b)

    def power(self, x: Array, y: Array) -> Array:
        # x^y = re(x)^re(y) * exp(re(y) * turn + i im(y) * (log re(x) + turn)), where turn is the
        # logarithm of x / re(x): real powers are exact to the last bit and know whole exponents.
        base, exponent = np.real(x), np.real(y)
        with np.errstate(all="ignore"):
            turn = self.log1p(1j * (np.imag(x) / base))
            lift = np.imag(y) * (np.log(base) + turn)
            drift = exponent * turn + 1j * np.where(np.imag(y) == 0, 0.0, lift)
            # At 0 there is no ratio to take, and NumPy multiplies small whole powers out.
            return np.where(base == 0, np.power(x, y), np.power(base, exponent) * np.exp(drift))

    def maximum(self, x: Array, y: Array) -> Array:
        return np.where((np.real(x) < np.real(y)) | np.isnan(y), y, x)

    def minimum(self, x: Array, y: Array) -> Array:
        return np.where((np.real(x) > np.real(y)) | np.isnan(y), y, x)

    def max(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        axes = tuple(a % x.ndim for a in axes)
        if not self.is_number(x) or not x.size:
            return _max(x, axes, keepdims)
        rest = tuple(a for a in range(x.ndim) if a not in axes)
        flat = np.transpose(x, (*rest, *axes)).reshape(*(x.shape[a] for a in rest), -1)
        top = np.take_along_axis(flat, np.argmax(flat.real, axis=-1)[..., None], axis=-1)[..., 0]
        return np.expand_dims(top, axes) if keepdims else top


def _max(x: np.ndarray, axes: tuple[int, ...], keepdims: bool) -> Array:
    """NumPy's maximum, where nothing at all is -inf; integers have no such number."""
    if x.dtype.kind in "fc":
        return np.max(x, axis=axes, keepdims=keepdims, initial=-np.inf)
    return np.max(x, axis=axes, keepdims=keepdims)


def _gauss(x: np.ndarray) -> np.ndarray:
    """exp(-x^2) right of 0; x^2 = head^2 + (x - head) * (x + head), and head^2 is exact."""
    head = x.astype(np.float32).astype(np.float64)
    return np.asarray(np.exp(-head * head) * np.exp(-(x - head) * (x + head)))


real = Real()
complex_ = Complex()
