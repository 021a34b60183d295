"""Tensors of a file as NumPy arrays: every claim about size is checked before anything is made."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from gradcli.errors import ModelError
from gradcli.graph import DType
from gradcli.onnxfile.budget import Meter
from gradcli.onnxfile.external import Folder
from gradcli.onnxfile.names import text

if TYPE_CHECKING:
    import onnx

CODES: dict[int, DType] = {
    1: DType.FLOAT32,
    2: DType.UINT8,
    3: DType.INT8,
    4: DType.UINT16,
    5: DType.INT16,
    6: DType.INT32,
    7: DType.INT64,
    8: DType.STRING,
    9: DType.BOOL,
    10: DType.FLOAT16,
    11: DType.FLOAT64,
    12: DType.UINT32,
    13: DType.UINT64,
    14: DType.COMPLEX64,
    15: DType.COMPLEX128,
    16: DType.BFLOAT16,
    17: DType.FLOAT8E4M3FN,
    18: DType.FLOAT8E4M3FNUZ,
    19: DType.FLOAT8E5M2,
    20: DType.FLOAT8E5M2FNUZ,
    21: DType.UINT4,
    22: DType.INT4,
    23: DType.FLOAT4E2M1,
    24: DType.FLOAT8E8M0,
    25: DType.UINT2,
    26: DType.INT2,
}
"""Element types by the numbers that the format gives them."""

NUMBERS = {dtype: code for code, dtype in CODES.items()}
"""The numbers that the format gives element types."""

_BITS = {DType.UINT4: 4, DType.INT4: 4, DType.FLOAT4E2M1: 4, DType.UINT2: 2, DType.INT2: 2}
_MOST_ELEMENTS = 2**58
_TYPED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
_FIELD = {
    **dict.fromkeys((DType.FLOAT32, DType.COMPLEX64), "float_data"),
    **dict.fromkeys((DType.FLOAT64, DType.COMPLEX128), "double_data"),
    **dict.fromkeys((DType.UINT32, DType.UINT64), "uint64_data"),
    DType.INT64: "int64_data",
}


def element_type(code: int, where: str) -> DType:
    """The element type of this number.

    Raises:
        ModelError: When the format has none of this number.
    """
    if code not in CODES:
        raise ModelError(
            f"{where} has the unknown element type {code}",
            "Save the model again with a released version of its exporter.",
        )
    return CODES[code]


def storage(dtype: DType, count: int) -> int:
    """The bytes that so many elements take in a file."""
    bits = _BITS.get(dtype)
    return count * dtype.np.itemsize if bits is None else -(-count * bits // 8)


class Tensors:
    """Makes arrays of a file's tensors, within its budget.

    Args:
        meter: What is left of the budget.
        folder: Where external data lies.
    """

    def __init__(self, meter: Meter, folder: Folder) -> None:
        self.meter = meter
        self.folder = folder
        self.external = False

    def array(self, proto: onnx.TensorProto, name: str) -> tuple[DType, np.ndarray]:
        """The tensor's element type and its array, read-only; external data is mapped.

        Args:
            proto: The message.
            name: What to call it in a refusal.

        Raises:
            ModelError: When dtype, dims and data do not fit each other.
        """
        where = f"{self.meter.path}: tensor {name!r}"
        dtype = element_type(proto.data_type, where)
        shape = self._shape(proto.dims, where)
        count = math.prod(shape)
        if proto.HasField("segment"):
            raise ModelError(f"{where} is stored in segments, which no exporter writes any more")
        size = storage(dtype, count) if dtype is not DType.STRING else count
        self.meter.tensor(size, name)
        if proto.data_location != proto.EXTERNAL:
            self.meter.held(size, name)
        if proto.data_location == proto.EXTERNAL:
            self.external = True
            array = self._external(proto, dtype, count, size, name)
        elif dtype is DType.STRING:
            _check_length(len(proto.string_data), count, "strings", where)
            array = np.array([text(s) for s in proto.string_data], dtype=object)
        elif proto.HasField("raw_data"):
            raw = proto.raw_data
            _check_length(len(raw), size, "bytes", where)
            array = _from_raw(np.frombuffer(raw, np.uint8), dtype, count)
        else:
            array = _from_fields(proto, dtype, count, size, where)
        array = array.reshape(shape)
        array.setflags(write=False)
        return dtype, array

    def sparse(self, proto: onnx.SparseTensorProto, name: str) -> tuple[DType, np.ndarray]:
        """A sparse tensor made dense.

        Raises:
            ModelError: When it is malformed, or would be too large.
        """
        where = f"{self.meter.path}: sparse tensor {name!r}"
        shape = self._shape(proto.dims, where)
        dtype, values = self.array(proto.values, name)
        kind, indices = self.array(proto.indices, name)
        if dtype is DType.STRING or kind is not DType.INT64 or values.ndim != 1:
            raise ModelError(f"{where} needs 1-D numeric values and int64 indices")
        size = math.prod(shape)
        self.meter.dense(size * dtype.np.itemsize, name)
        if indices.ndim == 2 and indices.shape == (values.size, len(shape)):
            inside = (indices >= 0) & (indices < np.array(shape, dtype=np.int64))
            at = tuple(indices.T)
        elif indices.shape == values.shape:
            inside = (indices >= 0) & (indices < size)
            at = np.unravel_index(np.where(inside, indices, 0), shape) if size else ()
        else:
            raise ModelError(f"{where} has {values.size} values but indices {indices.shape}")
        if not inside.all():
            raise ModelError(f"{where} has indices outside its shape {shape}")
        dense = np.zeros(shape, dtype.np)
        dense[at] = values
        dense.setflags(write=False)
        return dtype, dense

    def _shape(self, dims: Iterable[int], where: str) -> tuple[int, ...]:
        shape = tuple(dims)
        if len(shape) > self.meter.budget.rank:
            raise ModelError(f"{where} has {len(shape)} dimensions")
        if any(d < 0 for d in shape):
            raise ModelError(f"{where} has a negative dimension: {list(shape)}")
        if math.prod(max(d, 1) for d in shape) > _MOST_ELEMENTS:
            # Even without elements: NumPy cannot say such a shape.
            raise ModelError(f"{where} has an impossible shape: {list(shape)}")
        return shape

    def _external(
        self, proto: onnx.TensorProto, dtype: DType, count: int, size: int, name: str
    ) -> np.ndarray:
        where = f"{self.meter.path}: external data of tensor {name!r}"
        if dtype is DType.STRING:
            raise ModelError(f"{where}: strings cannot be external")
        entries = {text(entry.key): text(entry.value) for entry in proto.external_data}
        if len(entries) != len(proto.external_data):
            raise ModelError(f"{where} gives a key twice")
        return _from_raw(self.folder.map(entries, size, name), dtype, count)


def _check_length(found: int, needed: int, unit: str, where: str) -> None:
    if found != needed:
        raise ModelError(
            f"{where} holds {found:,} {unit}, but its shape needs {needed:,}",
            "The file is damaged; save or download the model again.",
        )


def _from_raw(raw: np.ndarray, dtype: DType, count: int) -> np.ndarray:
    if dtype in _BITS:
        return _unpack(raw, dtype, count)
    if dtype is DType.BOOL:
        # Bytes other than 0 and 1 are no NumPy booleans.
        return np.asarray(raw != 0)
    return np.asarray(raw.view(dtype.np.newbyteorder("<")), dtype.np)


def _unpack(raw: np.ndarray, dtype: DType, count: int) -> np.ndarray:
    """Elements narrower than a byte, the first in the lowest bits."""
    bits = _BITS[dtype]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = ((raw[:, None] >> shifts) & (2**bits - 1)).reshape(-1)[:count]
    if dtype is DType.FLOAT4E2M1:
        return np.asarray(codes.view(dtype.np))
    if dtype in (DType.INT4, DType.INT2):
        signed = codes.astype(np.int8)
        signed[codes >= 2 ** (bits - 1)] -= 2**bits
        return np.asarray(signed, dtype.np)
    return np.asarray(codes, dtype.np)


def _from_fields(
    proto: onnx.TensorProto, dtype: DType, count: int, size: int, where: str
) -> np.ndarray:
    name = _FIELD.get(dtype, "int32_data")
    for other in _TYPED:
        if other != name and len(getattr(proto, other)):
            raise ModelError(f"{where} is of {dtype.value} but has its data in {other}")
    data = getattr(proto, name)
    pairs = 2 if dtype in (DType.COMPLEX64, DType.COMPLEX128) else 1
    _check_length(len(data), size if dtype in _BITS else count * pairs, "numbers", where)
    if dtype in _BITS:
        return _unpack(np.array(data, np.int32).astype(np.uint8), dtype, count)
    if name == "float_data":
        return np.array(data, np.float32).view(dtype.np)
    if name == "double_data":
        return np.array(data, np.float64).view(dtype.np)
    if name != "int32_data":
        wide = np.array(data, np.int64 if name == "int64_data" else np.uint64)
        return np.asarray(wide, dtype.np)
    numbers = np.array(data, np.int32)
    if dtype is DType.BOOL:
        return np.asarray(numbers != 0)
    if dtype.is_float:
        # Half precision and the narrower floats are stored as their bit patterns.
        width = np.uint16 if dtype.np.itemsize == 2 else np.uint8
        return numbers.astype(width).view(dtype.np)
    return np.asarray(numbers, dtype.np)


def to_proto(name: str, dtype: DType, array: np.ndarray) -> onnx.TensorProto:
    """An array as a message, its data as raw bytes (strings as strings)."""
    import onnx

    proto = onnx.TensorProto(name=name, data_type=NUMBERS[dtype], dims=array.shape)
    if dtype is DType.STRING:
        proto.string_data.extend(str(s).encode("utf-8", "replace") for s in array.reshape(-1))
    elif dtype in _BITS:
        proto.raw_data = _pack(array.reshape(-1), dtype)
    else:
        proto.raw_data = array.astype(dtype.np.newbyteorder("<"), copy=False).tobytes()
    return proto


def _pack(flat: np.ndarray, dtype: DType) -> bytes:
    bits = _BITS[dtype]
    codes = flat.view(np.uint8) if dtype is DType.FLOAT4E2M1 else flat.astype(np.int8)
    codes = codes.astype(np.uint8) & (2**bits - 1)
    per_byte = 8 // bits
    padded = np.zeros(-(-codes.size // per_byte) * per_byte, np.uint8)
    padded[: codes.size] = codes
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    packed: np.ndarray = np.bitwise_or.reduce(padded.reshape(-1, per_byte) << shifts, axis=1)
    return packed.tobytes()
