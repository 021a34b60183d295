"""A number system whose arrays do nothing but arithmetic: so an `impl` asks `n`, or fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from gradcli.numbers import Numbers, Real, real


class Sealed:
    """Numbers in a box: `+ - * /`, unary minus, `.shape` and `.ndim`; all else is refused."""

    __array_ufunc__ = None  # NumPy arrays leave arithmetic with a box to the box
    __hash__ = None  # type: ignore[assignment] # equal boxes cannot be told

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def ndim(self) -> int:
        return self._array.ndim

    def __add__(self, other: Any) -> Any:
        return seal(self._array + opened(other))

    def __radd__(self, other: Any) -> Any:
        return seal(opened(other) + self._array)

    def __sub__(self, other: Any) -> Any:
        return seal(self._array - opened(other))

    def __rsub__(self, other: Any) -> Any:
        return seal(opened(other) - self._array)

    def __mul__(self, other: Any) -> Any:
        return seal(self._array * opened(other))

    def __rmul__(self, other: Any) -> Any:
        return seal(opened(other) * self._array)

    def __truediv__(self, other: Any) -> Any:
        return seal(self._array / opened(other))

    def __rtruediv__(self, other: Any) -> Any:
        return seal(opened(other) / self._array)

    def __neg__(self) -> Any:
        return seal(-self._array)


class SealedMask(Sealed):
    """Truth values in a box: not even arithmetic."""


def _refused(name: str) -> Callable[..., NoReturn]:
    def refuse(self: Sealed, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__}.{name}: touched behind the number system's back")

    return refuse


ASKING = (
    *("array", "array_function", "getitem", "setitem", "bool", "iter", "len", "float", "int"),
    *("complex", "eq", "ne", "lt", "le", "gt", "ge", "pow", "abs"),
)
ARITHMETIC = ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "neg")

for _name in ASKING:
    setattr(Sealed, f"__{_name}__", _refused(_name))
for _name in ARITHMETIC:
    setattr(SealedMask, f"__{_name}__", _refused(_name))


def seal(x: Any) -> Any:
    """Numbers and truth values in boxes; integers and strings as they are."""
    if isinstance(x, tuple):
        return tuple(map(seal, x))
    if isinstance(x, np.ndarray | np.generic):
        x = np.asarray(x)
        if x.dtype == bool:
            return SealedMask(x)
        if x.dtype == np.float64:
            return Sealed(x)
    return x


def opened(x: Any) -> Any:
    """What is in the box, also within lists."""
    if isinstance(x, list | tuple):
        return type(x)(map(opened, x))
    return x._array if isinstance(x, Sealed) else x


class Recorder(Real):
    """`real`, with every number and mask in a box between one call and the next."""

    name = "recorder"
    dtype = np.dtype(object)  # type: ignore[assignment] # no NumPy array is a number here

    def is_number(self, x: Any) -> bool:
        return isinstance(x, Sealed) and not isinstance(x, SealedMask)

    def is_mask(self, x: Any) -> bool:
        return isinstance(x, SealedMask) or (isinstance(x, np.ndarray) and x.dtype == bool)

    def lift(self, array: Any) -> Any:
        # Only what is computed gets a mask of this system; truth values of the file are plain.
        lifted = real.lift(array)
        return lifted if lifted.dtype == bool else seal(lifted)

    def lower(self, x: Any) -> Any:
        # The door out: what a caller asks for as plain floats.
        return real.lower(opened(x))

    @property
    def zero(self) -> Any:
        return seal(real.zero)


def _delegated(name: str) -> Callable[..., Any]:
    def method(self: Recorder, *args: Any, **kwargs: Any) -> Any:
        plain = {key: opened(value) for key, value in kwargs.items()}
        return seal(getattr(real, name)(*map(opened, args), **plain))

    return method


for _name, _method in vars(Numbers).items():
    if callable(_method) and not _name.startswith("_") and _name not in vars(Recorder):
        setattr(Recorder, _name, _delegated(_name))

recorder = Recorder()
