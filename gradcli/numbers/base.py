"""What an operator's `impl` may do with arrays, whatever the numbers in them are.

An `impl` is written once over a number system `n`. Its arrays answer `+ - * /` and unary minus
with NumPy's broadcasting, and `.shape` and `.ndim`; everything else goes through `n`. Integer and
string tensors are plain NumPy arrays in every system, lifted by none; comparisons give the system's
own masks, which only `n` reads. So the same lines compute in floats, in complex numbers, in
rigorous balls and in symbols.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any
"""An array of some number system: a NumPy array, in every system that gradcli has."""

Mask = Any
"""An elementwise truth value of some number system."""


def is_float(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype holds real floats, ml_dtypes' too (of kind V, as its integers are)."""
    return dtype.kind == "f" or (dtype.kind == "V" and dtype.name.startswith(("float", "bfloat")))


class Numbers(ABC):
    """A number system over NumPy arrays. Structure is shared; arithmetic is each system's own."""

    name: str
    """What reports call it."""

    dtype: np.dtype[Any]
    """How NumPy stores one number."""

    # ---- in and out -----------------------------------------------------------------------------

    @abstractmethod
    def lift(self, array: np.ndarray) -> Array:
        """Floats as numbers of this system, exactly; other tensors as they are."""

    @abstractmethod
    def lower(self, x: Array) -> np.ndarray:
        """Numbers of this system as the nearest float64 (or complex128)."""

    def full(self, shape: Sequence[int], number: float) -> Array:
        """An array of one number."""
        return np.full(tuple(shape), number, self.dtype)

    def is_number(self, x: Array) -> bool:
        """Whether x holds numbers of this system, not indices, masks or strings."""
        # Not isinstance: NumPy's arithmetic makes scalars of arrays without dimensions.
        dtype = getattr(x, "dtype", None)
        # Of None NumPy says that it is the dtype float64.
        return dtype is not None and bool(dtype == self.dtype)

    def is_mask(self, x: Array) -> bool:
        """Whether x holds truth values: this system's own, or a plain boolean tensor.

        Every operation that takes a mask takes either kind.
        """
        return getattr(x, "dtype", None) == np.bool_

    @abstractmethod
    def to_integer(self, x: Array, dtype: np.dtype[Any]) -> np.ndarray:
        """Numbers cut off towards zero, as a plain integer tensor.

        Raises:
            CannotError: When a number of this system does not decide an integer.
        """

    def to_bits(self, x: Array, source: np.dtype[Any], target: np.dtype[Any]) -> np.ndarray:
        """The bits of numbers, rounded to a float type, read as a plain tensor of another type.

        Raises:
            CannotError: When a number of this system does not decide its rounding.
        """
        rounded = self.round_to(x, source)
        bits = np.real(self.lower(rounded)).astype(source).view(target)
        # An open rounding does not even equal itself made anew, and no integer may hang on it.
        return np.asarray(self.where(self.equal(rounded, rounded * 1.0), bits, bits))

    # ---- elementwise, each system's own ---------------------------------------------------------

    @abstractmethod
    def exp(self, x: Array) -> Array:
        """e to the x."""

    @abstractmethod
    def log(self, x: Array) -> Array:
        """The natural logarithm."""

    @abstractmethod
    def log1p(self, x: Array) -> Array:
        """log(1 + x), without cancellation near 0."""

    @abstractmethod
    def expm1(self, x: Array) -> Array:
        """exp(x) - 1, without cancellation near 0."""

    @abstractmethod
    def sqrt(self, x: Array) -> Array:
        """The square root; not a number below 0."""

    @abstractmethod
    def tanh(self, x: Array) -> Array:
        """The hyperbolic tangent."""

    @abstractmethod
    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)), accurate in both tails."""

    def softplus(self, x: Array) -> Array:
        """log(1 + exp(x)), accurate in both tails."""
        # Of its two forms, each on the side where its exponential is below 1.
        left, right = self.log1p(self.exp(x)), x + self.log1p(self.exp(-x))
        return self.where(self.less(x, self.zero), left, right)

    @abstractmethod
    def erf(self, x: Array) -> Array:
        """The error function."""

    @abstractmethod
    def erfc(self, x: Array) -> Array:
        """1 - erf(x), accurate in its tail."""

    @abstractmethod
    def sin(self, x: Array) -> Array:
        """The sine, of radians."""

    @abstractmethod
    def cos(self, x: Array) -> Array:
        """The cosine, of radians."""

    @abstractmethod
    def tan(self, x: Array) -> Array:
        """The tangent, of radians."""

    @abstractmethod
    def asin(self, x: Array) -> Array:
        """The angle between -pi/2 and pi/2 with this sine; not a number beyond 1."""

    @abstractmethod
    def acos(self, x: Array) -> Array:
        """The angle between 0 and pi with this cosine; not a number beyond 1."""

    @abstractmethod
    def atan(self, x: Array) -> Array:
        """The angle between -pi/2 and pi/2 with this tangent."""

    @abstractmethod
    def sinh(self, x: Array) -> Array:
        """The hyperbolic sine."""

    @abstractmethod
    def cosh(self, x: Array) -> Array:
        """The hyperbolic cosine."""

    @abstractmethod
    def asinh(self, x: Array) -> Array:
        """The number with this hyperbolic sine."""

    @abstractmethod
    def acosh(self, x: Array) -> Array:
        """The number from 0 on with this hyperbolic cosine; not a number below 1."""

    @abstractmethod
    def atanh(self, x: Array) -> Array:
        """The number with this hyperbolic tangent; infinite at 1, not a number beyond."""

    @abstractmethod
    def power(self, x: Array, y: Array) -> Array:
        """x to the y, y numbers or integers."""

    @abstractmethod
    def sign(self, x: Array) -> Array:
        """-1, 0 or 1, as numbers; 0 only where x is exactly 0."""

    @abstractmethod
    def floor(self, x: Array) -> Array:
        """The greatest integer not above x, as a number."""

    @abstractmethod
    def round_to(self, x: Array, dtype: np.dtype[Any]) -> Array:
        """x rounded to a narrower float type, as numbers of this system: a staircase."""

    def divide(self, x: Array, y: Array) -> Array:
        """x / y; integers divide towards zero, as ONNX says."""
        if not self.is_number(x) and not self.is_number(y):
            # Not by way of floats, which do not hold every int64.
            down = np.floor_divide(x, y)
            return down + ((np.remainder(x, y) != 0) & (down < 0))
        return x / y

    # ---- comparisons and choice: of numbers, and of plain integer tensors -----------------------

    @abstractmethod
    def less(self, x: Array, y: Array) -> Mask:
        """Where x < y."""

    @abstractmethod
    def equal(self, x: Array, y: Array) -> Mask:
        """Where x == y."""

    @abstractmethod
    def where(self, mask: Mask, x: Array, y: Array) -> Array:
        """x where the mask holds, else y, all three broadcast."""

    @abstractmethod
    def logical_not(self, mask: Mask) -> Mask:
        """Where the mask does not hold."""

    @abstractmethod
    def logical_and(self, a: Mask, b: Mask) -> Mask:
        """Where both hold."""

    @abstractmethod
    def logical_or(self, a: Mask, b: Mask) -> Mask:
        """Where either holds."""

    @abstractmethod
    def mask_to_number(self, mask: Mask) -> Array:
        """1 where the mask holds, else 0, as numbers."""

    def is_nan(self, x: Array) -> Mask:
        """Where x is not a number."""
        return np.isnan(self.lower(x))

    def is_infinite(self, x: Array) -> Mask:
        """Where x is infinite, of either sign."""
        return np.isinf(self.lower(x))

    def maximum(self, x: Array, y: Array) -> Array:
        """The greater of the two."""
        return self.where(self.less(x, y), y, x)

    def minimum(self, x: Array, y: Array) -> Array:
        """The smaller of the two."""
        return self.where(self.less(y, x), y, x)

    def abs(self, x: Array) -> Array:
        """The distance to zero."""
        return self.where(self.less(x, self.zero_of(x)), -x, x)

    def zero_of(self, x: Array) -> Array:
        """The 0 of x's own kind, number or integer, as an array of no dimensions."""
        return self.zero if self.is_number(x) else np.zeros((), x.dtype)

    @property
    def zero(self) -> Array:
        """The number 0, as an array of no dimensions."""
        return self.full((), 0.0)

    @property
    def pi(self) -> Array:
        """Half the circumference of the unit circle, as an array of no dimensions."""
        return self.full((), math.pi)

    # ---- reductions and products ----------------------------------------------------------------

    @abstractmethod
    def sum(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        """The sum over these axes; an empty sum is the number 0."""

    @abstractmethod
    def max(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        """The greatest element over these axes."""

    def min(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        """The least element over these axes."""
        return -self.max(-x, axes, keepdims)

    @abstractmethod
    def argmax(self, x: Array, axis: int) -> np.ndarray:
        """Where the first greatest element stands along an axis, int64, the axis dropped."""

    @abstractmethod
    def argsort(self, x: Array, axis: int) -> np.ndarray:
        """Where the least, the next, ... element stands along an axis; equal ones in their order.

        Of plain tensors too.

        Raises:
            CannotError: When numbers of this system do not decide an order.
        """

    @abstractmethod
    def anchor(self, x: Array, axis: int) -> Array:
        """Some constant near the maximum along an axis (kept as size 1), for shifting a softmax.

        The result carries no derivative and no uncertainty; a softmax is the same for any shift.
        """

    @abstractmethod
    def matmul(self, a: Array, b: Array) -> Array:
        """The matrix product over the last two axes, leading axes broadcast."""

    # ---- structure, the same for every kind of element ------------------------------------------

    def reshape(self, x: Array, shape: Sequence[int]) -> Array:
        """x in another shape, row-major."""
        return np.reshape(x, tuple(shape))

    def transpose(self, x: Array, perm: Sequence[int]) -> Array:
        """x with its axes permuted."""
        return np.transpose(x, tuple(perm))

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        """x repeated to this shape."""
        return np.broadcast_to(x, tuple(shape))

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        """The parts one after another along an axis."""
        return np.concatenate(list(parts), axis=axis)

    def take(self, x: Array, indices: np.ndarray, axis: int) -> Array:
        """The slices of x at these (possibly negative) integer indices of an axis."""
        return np.take(x, indices, axis=axis)

    def take_along(self, x: Array, indices: np.ndarray, axis: int) -> Array:
        """For each place of `indices`, x's element at that index along the axis."""
        return np.take_along_axis(x, indices, axis=axis)

    def ordered(self, x: Array, places: np.ndarray, axis: int) -> Array:
        """x's elements at places that an order of its elements along the axis gave."""
        return self.take_along(x, places, axis)

    def slice(self, x: Array, cuts: Sequence[slice]) -> Array:
        """Basic slicing, one slice for each leading axis."""
        return x[tuple(cuts)]

    def pad(self, x: Array, widths: Sequence[tuple[int, int]], fill: Array) -> Array:
        """x with `fill` (a scalar array or a float) around it, by (before, after) for each axis."""
        if not any(a or b for a, b in widths):
            return x
        shape = tuple(d + a + b for d, (a, b) in zip(x.shape, widths, strict=True))
        out = np.empty(shape, x.dtype)
        if isinstance(fill, float) and self.is_number(x):
            fill = self.full((), fill)
        out[...] = fill
        out[tuple(slice(a, a + d) for d, (a, _) in zip(x.shape, widths, strict=True))] = x
        return out

    def windows(
        self, x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        """Every window over the last k axes: [..., out1..outk, kernel1..kernelk], a view."""
        k = len(kernel)
        reach = tuple((w - 1) * d + 1 for w, d in zip(kernel, dilations, strict=True))
        axes = tuple(range(x.ndim - k, x.ndim))
        view: np.ndarray = np.lib.stride_tricks.sliding_window_view(x, reach, axis=axes)
        steps: tuple[Any, ...] = tuple(slice(None, None, s) for s in strides)
        inner = tuple(slice(None, None, d) for d in dilations)
        return view[(..., *steps, *inner)]

    def overlap_add(
        self, x: Array, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        """The transpose of `windows`: every window's elements added up where they came from.

        Args:
            x: Windows [..., out1..outk, kernel1..kernelk].
            sizes: The last k axes of the result, at least as long as the windows reach.
            strides: Between windows.
            dilations: Between a window's elements.
        """
        k = len(sizes)
        outs, kernel = x.shape[-2 * k : -k], x.shape[-k:]
        total = np.empty((*x.shape[: -2 * k], *sizes), x.dtype)
        total[...] = self.zero_of(x)
        for tap in np.ndindex(*kernel):
            places: tuple[Any, ...] = tuple(
                slice(t * d, t * d + max((o - 1) * s + 1, 0), s)
                for t, d, s, o in zip(tap, dilations, strides, outs, strict=True)
            )
            total[(..., *places)] += x[(..., *tap)]
        return total

    def scatter(
        self, x: Array, places: tuple[np.ndarray, ...], updates: Array, reduction: str
    ) -> Array:
        """A copy of x with updates written at index arrays: `none`, or added: `add`."""
        out = np.array(x, copy=True)
        if reduction == "add":
            np.add.at(out, places, updates)
        else:
            out[places] = updates
        return out
