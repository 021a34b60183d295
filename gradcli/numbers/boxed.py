"""What `ball` and `symbol` share: NumPy arrays whose elements are Python objects."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cmp_to_key
from typing import Any

import numpy as np

from gradcli import deadline
from gradcli.errors import UndecidedError
from gradcli.numbers.base import Array, Mask, Numbers, is_float
from gradcli.numbers.floats import real

_ARITHMETIC = frozenset({np.add, np.subtract, np.multiply, np.divide, np.negative})


class BoxedArray(np.ndarray):
    """An object array that stays an array at rank 0 and knows its number system.

    Only `+ - * /` and unary minus are let through: NumPy's comparisons, maxima and truth values
    would ask the elements questions that a ball or a symbol answers wrongly instead of not at all.
    """

    n: Boxed

    def __array_finalize__(self, obj: Any) -> None:
        if obj is not None:
            # None only for a view of a foreign array, which `box` then gives its system.
            self.n = getattr(obj, "n", None)  # type: ignore[assignment]

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **how: Any) -> Any:
        if ufunc not in _ARITHMETIC or method not in {"__call__", "at"}:
            raise TypeError(
                f"{ufunc.__name__} on numbers of {self.n.name!r}: only through its methods"
            )
        if method == "at":
            return self.n.apply(ufunc.at, *inputs, **how)
        (out,) = how.pop("out", (None,))
        result = self.n.elementwise(ufunc, *inputs, **how)
        if out is None:
            return self.n.box(result)
        plain(out)[...] = result
        return out

    def __bool__(self) -> bool:
        raise TypeError(f"the truth of numbers of {self.n.name!r}")


class BoxedMask(np.ndarray):
    """Truth values, at least one of which is not True or False but open."""


def plain(x: Any) -> Any:
    """The same array without its class; anything else as it is."""
    return x.view(np.ndarray) if isinstance(x, BoxedArray | BoxedMask) else x


def as_mask(answers: np.ndarray) -> Mask:
    """Truth values as a mask: a plain boolean array where every one is decided."""
    if all(isinstance(a, bool) for a in answers.flat):
        return answers.astype(bool)
    return answers.view(BoxedMask)


class Boxed(Numbers):
    """A number system whose numbers are Python objects.

    A mask is a plain boolean array where every element is decided, else a BoxedMask.
    """

    dtype = np.dtype(object)

    def working(self) -> AbstractContextManager[Any]:
        """The surroundings in which elements are computed with."""
        return nullcontext()

    def apply(self, function: Callable[..., Any], *operands: Any, **how: Any) -> Any:
        """A function of object arrays, on the plain arrays, in the system's own surroundings.

        Floating-point flags are those of whatever the elements do inside, and mean nothing. Objects
        are slow, so the deadline is looked at here too.
        """
        deadline.check()
        with self.working(), np.errstate(all="ignore"):
            return function(*map(plain, operands), **how)

    def elementwise(self, function: Callable[..., Any], *operands: Any, **how: Any) -> np.ndarray:
        """A function of single numbers, of nothing else, as an object array."""
        return np.asarray(self.apply(function, *operands, **how), object)

    # ---- what each system says of single elements -----------------------------------------------

    @abstractmethod
    def _element(self, number: float) -> Any:
        """A float, exactly."""

    def _elements(self, numbers: list[float]) -> Iterable[Any]:
        """Floats, exactly."""
        return map(self._element, numbers)

    @abstractmethod
    def _is_element(self, x: Any) -> bool:
        """Whether an object is a number of this system."""

    @abstractmethod
    def _float(self, x: Any) -> float:
        """The nearest float."""

    @abstractmethod
    def _less(self, x: Any, y: Any) -> Any:
        """True, False, or an open truth value."""

    @abstractmethod
    def _equal(self, x: Any, y: Any) -> Any:
        """True, False, or an open truth value."""

    @abstractmethod
    def _not(self, a: Any) -> Any:
        """Of a truth value, open or not."""

    @abstractmethod
    def _and(self, a: Any, b: Any) -> Any:
        """Of truth values, open or not."""

    @abstractmethod
    def _choose(self, truth: Any, x: Any, y: Any, /) -> Any:
        """x or y, by an open truth value."""

    @abstractmethod
    def _total(self, terms: list[Any]) -> Any:
        """The sum of at least one term."""

    @abstractmethod
    def _greatest(self, terms: list[Any]) -> Any:
        """The greatest of at least one term."""

    @abstractmethod
    def _product(self, a: np.ndarray, b: np.ndarray) -> list[Any]:
        """The elements of a matrix product, row-major; no dimension is 0."""

    # ---- in and out -----------------------------------------------------------------------------

    def box(self, x: Any) -> BoxedArray:
        """An object array, or one element, as an array of this system."""
        if not isinstance(x, np.ndarray):
            element, x = x, np.empty((), object)
            x[()] = element
        y: BoxedArray = x.view(BoxedArray)
        y.n = self
        return y

    def lift(self, array: np.ndarray) -> Array:
        if isinstance(array, BoxedArray):
            return array
        array = np.asarray(array)
        if is_float(array.dtype):
            numbers = self._elements(array.astype(np.float64).reshape(-1).tolist())
            lifted = np.fromiter(numbers, object, array.size)
            lifted.flags.writeable = False  # so that it may be known again: see Ball
            return self.box(lifted.reshape(array.shape))
        if array.dtype == object and array.size and all(map(self._is_element, array.flat)):
            return self.box(array)
        return array

    def lower(self, x: Array) -> np.ndarray:
        if not self.is_number(x):
            return np.asarray(x)
        return np.fromiter(map(self._float, plain(x).flat), np.float64, x.size).reshape(x.shape)

    def full(self, shape: Sequence[int], number: float) -> Array:
        out = np.empty(tuple(shape), object)
        out.fill(self._element(float(number)))
        return self.box(out)

    def is_number(self, x: Array) -> bool:
        return isinstance(x, BoxedArray)

    def is_mask(self, x: Array) -> bool:
        return isinstance(x, BoxedMask) or super().is_mask(x)

    # ---- elementwise ----------------------------------------------------------------------------

    def _map(self, function: Callable[..., Any], *operands: Array) -> Array:
        """A function of elements, as numbers; operands broadcast."""
        elementwise = np.frompyfunc(function, len(operands), 1)
        return self.box(self.elementwise(elementwise, *map(self._number, operands)))

    def _number(self, x: Array) -> Array:
        """An operand as numbers, integers and Python's floats too."""
        return x if isinstance(x, BoxedArray) else self.lift(np.asarray(x, np.float64))

    def _truth(self, function: Callable[..., Any], *operands: Array) -> Mask:
        """A question about elements, as a mask."""
        elementwise = np.frompyfunc(function, len(operands), 1)
        return as_mask(np.asarray(self.apply(elementwise, *operands), object))

    # ---- comparisons and choice -----------------------------------------------------------------

    def less(self, x: Array, y: Array) -> Mask:
        if not self.is_number(x) and not self.is_number(y):
            return real.less(x, y)
        return self._truth(self._less, self._number(x), self._number(y))

    def equal(self, x: Array, y: Array) -> Mask:
        if self.is_mask(x) and self.is_mask(y):
            both = self.logical_and(x, y)
            return self.logical_or(both, self.logical_and(self.logical_not(x), self.logical_not(y)))
        if not self.is_number(x) and not self.is_number(y):
            return real.equal(x, y)
        return self._truth(self._equal, self._number(x), self._number(y))

    def logical_not(self, mask: Mask) -> Mask:
        return self._truth(self._not, mask)

    def logical_and(self, a: Mask, b: Mask) -> Mask:
        return self._truth(self._and, a, b)

    def logical_or(self, a: Mask, b: Mask) -> Mask:
        return self.logical_not(self.logical_and(self.logical_not(a), self.logical_not(b)))

    def where(self, mask: Mask, x: Array, y: Array) -> Array:
        if self.is_number(x) or self.is_number(y):
            return self._map_choice(mask, self._number(x), self._number(y))
        if not isinstance(mask, BoxedMask | BoxedArray):
            return real.where(mask, x, y)
        if self.is_mask(x) and self.is_mask(y):
            first = self.logical_and(mask, x)
            second = self.logical_and(self.logical_not(mask), y)
            either = self.logical_and(x, y)  # holds whatever the mask says
            return self.logical_or(self.logical_or(first, second), either)
        raise UndecidedError(f"an integer hangs on a choice that {self.name!r} cannot decide")

    def _map_choice(self, mask: Mask, x: Array, y: Array) -> Array:
        if not isinstance(mask, BoxedMask):
            return self.box(np.asarray(np.where(mask, plain(x), plain(y)), object))

        def choose(truth: Any, a: Any, b: Any) -> Any:
            if isinstance(truth, bool):
                return a if truth else b
            return self._choose(truth, a, b)

        return self.box(self.apply(np.frompyfunc(choose, 3, 1), mask, x, y))

    def mask_to_number(self, mask: Mask) -> Array:
        return self.where(mask, self.full((), 1.0), self.zero)

    # ---- reductions and products ----------------------------------------------------------------

    def _rows(
        self, x: Array, axes: Sequence[int], keepdims: bool, function: Callable[[list[Any]], Any]
    ) -> np.ndarray:
        """A function of all elements that differ only in these axes, as an object array."""
        axes = tuple(a % x.ndim for a in axes)
        rest = tuple(a for a in range(x.ndim) if a not in axes)
        kept = tuple(x.shape[a] for a in rest)
        count = int(np.prod(kept))
        rows = np.transpose(plain(x), (*rest, *axes)).reshape(count, -1 if x.size else 0)
        out = self._each_row(function, rows).reshape(kept)
        return np.expand_dims(out, axes) if keepdims else out

    def _each_row(self, function: Callable[[list[Any]], Any], rows: np.ndarray) -> np.ndarray:
        """A function of the rows of a matrix, as an object array."""
        with self.working():
            return np.fromiter((function(row.tolist()) for row in rows), object, len(rows))

    def sum(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if not self.is_number(x):
            return real.sum(x, axes, keepdims)

        def total(row: list[Any]) -> Any:
            return self._total(row) if row else self._element(0.0)

        return self.box(self._rows(x, axes, keepdims, total))

    def max(self, x: Array, axes: Sequence[int], keepdims: bool) -> Array:
        if not self.is_number(x):
            return real.max(x, axes, keepdims)

        def greatest(row: list[Any]) -> Any:
            return self._greatest(row) if row else self._element(-np.inf)

        return self.box(self._rows(x, axes, keepdims, greatest))

    def argmax(self, x: Array, axis: int) -> np.ndarray:
        if not self.is_number(x):
            return real.argmax(x, axis)
        return self._rows(x, (axis,), False, self._first_greatest).astype(np.int64)

    def _first_greatest(self, row: list[Any]) -> int:
        first = 0
        for k, x in enumerate(row):
            if self._less(row[first], x) is True:
                first = k
        top = row[first]
        above = all(self._less(x, top) is True for x in row[:first])
        if above and all(self._less(top, x) is False for x in row[first + 1 :]):
            return first
        raise UndecidedError(f"{self.name!r} cannot decide which element is the greatest")

    def argsort(self, x: Array, axis: int) -> np.ndarray:
        if not self.is_number(x):
            return real.argsort(x, axis)
        moved = np.moveaxis(plain(x), axis, -1)
        out = np.zeros(moved.shape, np.int64)
        with self.working():
            for row in np.ndindex(*moved.shape[:-1]):
                elements = moved[row].tolist()
                key = cmp_to_key(lambda i, j, v=elements: self._order(v[i], v[j]))  # type: ignore[misc] # mypy knows no lambda's defaults
                out[row] = sorted(range(len(elements)), key=key)
        return np.moveaxis(out, -1, axis)

    def _order(self, x: Any, y: Any) -> int:
        """-1, 0 or 1, as x is less than, equal to or greater than y."""
        less, greater = self._less(x, y), self._less(y, x)
        if isinstance(less, bool) and isinstance(greater, bool):
            return greater - less
        raise UndecidedError(f"{self.name!r} cannot decide which of two elements is the greater")

    def matmul(self, a: Array, b: Array) -> Array:
        if not self.is_number(a) and not self.is_number(b):
            return real.matmul(a, b)
        a, b = plain(self._number(a)), plain(self._number(b))
        row, column = a.ndim == 1, b.ndim == 1
        a = a[None] if row else a
        b = b[:, None] if column else b
        if a.shape[-1] != b.shape[-2]:
            raise ValueError(f"a matrix product of {a.shape} and {b.shape}")
        out = self._products(a, b)
        if column:
            out = out[..., 0]
        return self.box(out[..., 0, :] if row and not column else out[..., 0] if row else out)

    def _products(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        m, k, n = *a.shape[-2:], b.shape[-1]
        if b.ndim == 2 and a.ndim > 2:  # one large product instead of many small ones
            return self._products(a.reshape(-1, k), b).reshape(*a.shape[:-1], n)
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        if 0 in {*batch, m, n, k}:
            return np.asarray(plain(self.full((*batch, m, n), 0.0)))
        a = np.broadcast_to(a, (*batch, m, k))
        b = np.broadcast_to(b, (*batch, k, n))
        out = np.empty((*batch, m * n), object)
        with self.working():
            for i in np.ndindex(*batch):
                deadline.check()
                out[i] = np.fromiter(self._product(a[i], b[i]), object, m * n)
        return out.reshape(*batch, m, n)

    # ---- structure: NumPy's, which forgets the class of its operands ----------------------------

    def _like(self, x: Array, result: Any) -> Array:
        if isinstance(x, BoxedArray):
            return self.box(result)
        if isinstance(x, BoxedMask):
            return np.asarray(result, object).view(BoxedMask)
        return result

    def concat(self, parts: Sequence[Array], axis: int) -> Array:
        boxed = next((x for x in parts if isinstance(x, BoxedArray | BoxedMask)), parts[0])
        return self._like(boxed, super().concat([plain(x) for x in parts], axis))

    def broadcast_to(self, x: Array, shape: Sequence[int]) -> Array:
        return self._like(x, super().broadcast_to(plain(x), shape))

    def take(self, x: Array, indices: np.ndarray, axis: int) -> Array:
        return self._like(x, super().take(plain(x), indices, axis))

    def take_along(self, x: Array, indices: np.ndarray, axis: int) -> Array:
        return self._like(x, super().take_along(plain(x), indices, axis))

    def pad(self, x: Array, widths: Sequence[tuple[int, int]], fill: Array) -> Array:
        if self.is_number(x):
            fill = self._number(fill)
        return self._like(x, super().pad(plain(x), widths, plain(fill)))

    def windows(
        self, x: Array, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        return self._like(x, super().windows(plain(x), kernel, strides, dilations))

    def overlap_add(
        self, x: Array, sizes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> Array:
        return self._like(x, super().overlap_add(x, sizes, strides, dilations))

    def scatter(
        self, x: Array, places: tuple[np.ndarray, ...], updates: Array, reduction: str
    ) -> Array:
        if self.is_number(x):
            updates = self._number(updates)
        return self._like(x, super().scatter(x, places, updates, reduction))
