"""One tensor in a file of its own, as ONNX's test data have them."""

from __future__ import annotations

import numpy as np

from gradcli.errors import InputError, ModelError
from gradcli.onnxfile.budget import Budget, Meter
from gradcli.onnxfile.external import Folder
from gradcli.onnxfile.names import printable
from gradcli.onnxfile.tensors import Tensors

HINT = "save it with onnx.numpy_helper.from_array(array).SerializeToString(), or as .npy"


def read_tensor(data: bytes, where: str) -> tuple[str, np.ndarray]:
    """The name and the array of a TensorProto.

    Raises:
        InputError: When it is none, is malformed, or keeps its data elsewhere.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # ships none

    proto = onnx.TensorProto()
    try:
        proto.ParseFromString(data)
    except (DecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{where}: is no TensorProto", HINT) from error
    if not proto.data_type:
        raise InputError(f"{where}: is no TensorProto: it has no element type", HINT)
    name = printable(proto.name)
    if proto.data_location == proto.EXTERNAL:
        raise InputError(f"{where}: its data lie in another file", HINT)
    try:
        meter = Meter(Budget(), where, len(data))
        _, array = Tensors(meter, Folder(None, where)).array(proto, name)
    except ModelError as error:
        raise InputError(error.message, HINT) from error
    return name, array
