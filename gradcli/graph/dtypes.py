"""Element types of tensors, and shapes whose dimensions are ints or symbols."""

from __future__ import annotations

import enum
from functools import cached_property
from typing import Any

from numpy import dtype, ndarray

Dim = int | str
"""A dimension: a size, or a symbol that stands for one unknown size wherever it appears."""

Shape = tuple[Dim, ...]
"""A known rank. Where even the rank is unknown, the shape is None."""

Type = tuple["DType", Shape | None]
"""What is known of a value before it is computed."""


class DType(enum.Enum):
    """The element types of ONNX, by the names that NumPy and ml_dtypes use."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    BFLOAT16 = "bfloat16"
    FLOAT8E4M3FN = "float8_e4m3fn"
    FLOAT8E4M3FNUZ = "float8_e4m3fnuz"
    FLOAT8E5M2 = "float8_e5m2"
    FLOAT8E5M2FNUZ = "float8_e5m2fnuz"
    FLOAT8E8M0 = "float8_e8m0fnu"
    FLOAT4E2M1 = "float4_e2m1fn"
    COMPLEX64 = "complex64"
    COMPLEX128 = "complex128"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    INT2 = "int2"
    UINT2 = "uint2"
    INT4 = "int4"
    UINT4 = "uint4"
    BOOL = "bool"
    STRING = "str"

    @cached_property
    def np(self) -> dtype[Any]:
        """The NumPy dtype that stores this element type."""
        if self is DType.STRING:
            return dtype(object)
        try:
            native: dtype[Any] = dtype(self.value)
        except TypeError:
            # bfloat16, the float8s and the 4-bit types live in ml_dtypes, which comes with onnx.
            import ml_dtypes

            native = dtype(getattr(ml_dtypes, self.value))
        return native

    @cached_property
    def is_float(self) -> bool:
        """Whether a derivative with respect to a tensor of this type can make sense."""
        return self.value.startswith(("float", "bfloat"))

    @cached_property
    def is_integer(self) -> bool:
        """Whether elements are signed or unsigned integers."""
        return self.value.startswith(("int", "uint"))

    @cached_property
    def tiny(self) -> float:
        """What may be lost of a number because there are no smaller ones; 0 for types of integers.

        The smallest normal number, below which digits are lost and in the end the number itself. In
        float16 that is a size of everyday, and its smallest number of all is meant.

        Raises:
            KeyError: As `eps`.
        """
        if not self.is_float:
            return 0.0
        exponents = {"float64": -1022, "float32": -126, "float16": -24, "bfloat16": -126}
        return 2.0 ** exponents[self.value]

    @cached_property
    def eps(self) -> float:
        """The spacing of floats at 1, for rounding models; 0 for types that do not round.

        Raises:
            KeyError: For the 8-bit and 4-bit floats, whose rounding nobody should model.
        """
        if not self.is_float:
            return 0.0
        return {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}[
            self.value
        ]

    @cached_property
    def greatest(self) -> float:
        """The greatest finite number of a float type."""
        import ml_dtypes

        return float(ml_dtypes.finfo(self.np).max)  # type: ignore[no-untyped-call] # theirs

    @classmethod
    def of(cls, array: ndarray) -> DType:
        """The element type of a NumPy array.

        Raises:
            ValueError: When no ONNX element type stores such an array.
        """
        if array.dtype.kind in "OUS":
            return cls.STRING
        return cls(array.dtype.name)


def broadcast(*shapes: Shape | None) -> Shape | None:
    """The common shape of operands under multidirectional (NumPy) broadcasting.

    A symbol meets an int above 1 as that int, and meets 1 as itself. Two different symbols have
    no common dimension that is known before the run: the result's rank stays, so the caller
    sees such a dimension as a new symbol, made of both names.

    Raises:
        ValueError: When two known dimensions differ and neither is 1.
    """
    if len(set(shapes)) == 1:
        return shapes[0]
    known = [s for s in shapes if s is not None]
    if len(known) < len(shapes):
        return None
    if not known:
        return ()
    rank = max(map(len, known))
    out: list[Dim] = []
    for axis in range(-rank, 0):
        dims = {s[axis] for s in known if len(s) >= -axis} - {1}
        ints = {d for d in dims if isinstance(d, int)}
        if len(ints) > 1:
            raise ValueError(f"shapes {', '.join(map(str, known))} do not broadcast")
        if ints:
            out.append(ints.pop())
        elif not dims:
            out.append(1)
        else:
            out.append("|".join(sorted(map(str, dims))))
    return tuple(out)


def is_static(shape: Shape | None) -> bool:
    """Whether every dimension is a known int."""
    return shape is not None and all(isinstance(d, int) for d in shape)


def size(shape: Shape) -> int:
    """The number of elements of a static shape, as an exact Python int."""
    n = 1
    for dim in shape:
        if not isinstance(dim, int):
            raise TypeError(f"dimension {dim!r} is not known before the run")
        n *= dim
    return n
