"""Attributes of nodes: from the file's messages to Python values, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcli.errors import ModelError
from gradcli.graph import DType, Graph
from gradcli.onnxfile.names import printable, text
from gradcli.onnxfile.schemas import DTYPE_ATTRIBUTES, Form
from gradcli.onnxfile.tensors import NUMBERS, Tensors, element_type, to_proto

if TYPE_CHECKING:
    import onnx

_KINDS = [
    "UNDEFINED",
    "FLOAT",
    "INT",
    "STRING",
    "TENSOR",
    "GRAPH",
    "FLOATS",
    "INTS",
    "STRINGS",
    "TENSORS",
    "GRAPHS",
    "SPARSE_TENSOR",
    "SPARSE_TENSORS",
    "TYPE_PROTO",
    "TYPE_PROTOS",
]
_NUMBER = {name: number for number, name in enumerate(_KINDS)}
_SINGLE = (("f", "FLOAT"), ("i", "INT"), ("s", "STRING"), ("t", "TENSOR"), ("g", "GRAPH"))
_MANY = (("floats", "FLOATS"), ("ints", "INTS"), ("strings", "STRINGS"), ("tensors", "TENSORS"))


_LONG = 1024
"""Longer lists of numbers are kept as arrays: an ensemble of trees has lists of millions."""


def kind_of(proto: onnx.AttributeProto) -> str:
    """Which kind of value it holds (`INT`, `FLOATS`, ...)."""
    number = proto.type
    if number:
        return _KINDS[number] if number < len(_KINDS) else "UNDEFINED"
    # Files of the first format versions leave the type out.
    for field, kind in _SINGLE:
        if proto.HasField(field):
            return kind
    return next((kind for field, kind in _MANY if len(getattr(proto, field))), "UNDEFINED")


def decode(
    proto: onnx.AttributeProto,
    op: str,
    tensors: Tensors,
    read_graph: Callable[[onnx.GraphProto], Graph],
    where: str,
) -> Any:
    """The attribute's value: int, float, str, tuples of these, a NumPy array, or a Graph.

    A long list of numbers is an array too; a type is its message's bytes.

    Args:
        proto: The message.
        op: The operator it belongs to: some of its numbers name element types.
        tensors: Reads the tensors in it.
        read_graph: Reads the bodies in it.
        where: The node, for refusals.

    Raises:
        ModelError: For kinds of attribute that no supported operator has.
    """
    kind = kind_of(proto)
    name = text(proto.name)
    if kind == "INT":
        if (op, name) in DTYPE_ATTRIBUTES:
            return element_type(proto.i, f"{where}: {name}").value if proto.i else None
        return proto.i
    if kind == "FLOAT":
        return proto.f
    if kind == "STRING":
        tensors.meter.held(len(proto.s), name)
        return text(proto.s)
    if kind in ("INTS", "FLOATS", "STRINGS"):
        values = getattr(proto, kind.lower())
        tensors.meter.held(8 * len(values), name)
        if kind == "STRINGS":
            # The modes of a million nodes are a few words.
            words = {value: text(value) for value in set(values)}
            return tuple([words[value] for value in values])
        if len(values) > _LONG:
            return _array(values, np.dtype(np.float32 if kind == "FLOATS" else np.int64))
        return tuple(values)
    label = f"{printable(name)} of {where.partition(': ')[2]}"
    if kind == "TENSOR":
        return tensors.array(proto.t, label)[1]
    if kind == "TENSORS":
        return tuple(tensors.array(t, label)[1] for t in proto.tensors)
    if kind == "SPARSE_TENSOR":
        return tensors.sparse(proto.sparse_tensor, label)[1]
    if kind == "GRAPH":
        return read_graph(proto.g)
    if kind == "TYPE_PROTO":
        return proto.tp.SerializeToString()
    raise ModelError(
        f"{where}: attribute {printable(name)!r} is of a kind ({kind}) that gradcli does not read",
        "Simplify the model first, for example with onnxsim.",
    )


def _array(values: Sequence[Any], dtype: np.dtype[Any]) -> np.ndarray:
    array = np.fromiter(values, dtype, len(values))
    array.setflags(write=False)
    return array


def encode(
    name: str,
    value: Any,
    op: str,
    form: Form | None,
    write_graph: Callable[[Graph], onnx.GraphProto],
) -> onnx.AttributeProto:
    """The attribute as a message; its kind is the standard's where that knows the attribute."""
    import onnx

    if (op, name) in DTYPE_ATTRIBUTES and isinstance(value, str):
        value = NUMBERS[DType(value)]
    declared = None if form is None else form.attributes.get(name)
    kind = _guess(value) if declared is None else declared.kind
    proto = onnx.AttributeProto(name=name, type=_NUMBER[kind])  # type: ignore[arg-type] # an enum
    if kind == "INT":
        proto.i = int(value)
    elif kind == "FLOAT":
        proto.f = float(value)
    elif kind == "STRING":
        proto.s = value.encode("utf-8", "replace")
    elif kind == "INTS":
        proto.ints.extend(int(v) for v in value)
    elif kind == "FLOATS":
        proto.floats.extend(float(v) for v in value)
    elif kind == "STRINGS":
        proto.strings.extend(v.encode("utf-8", "replace") for v in value)
    elif kind == "GRAPH":
        proto.g.CopyFrom(write_graph(value))
    elif kind == "TENSOR":
        proto.t.CopyFrom(_tensor(value))
    elif kind == "TYPE_PROTO":
        proto.tp.ParseFromString(value)
    elif kind == "TENSORS":
        proto.tensors.extend(_tensor(v) for v in value)
    else:
        raise ModelError(f"attribute {name!r} of {op} is of a kind ({kind}) that cannot be written")
    return proto


def _tensor(value: Any) -> onnx.TensorProto:
    array = np.asarray(value)
    return to_proto("", DType.of(array), array)


def _guess(value: Any) -> str:
    if isinstance(value, Graph):
        return "GRAPH"
    if isinstance(value, np.ndarray):
        return "TENSOR"
    if isinstance(value, tuple | list):
        if any(isinstance(v, float) for v in value):
            return "FLOATS"
        return (_guess(value[0]) if value else "INT") + "S"
    if isinstance(value, str):
        return "STRING"
    return "FLOAT" if isinstance(value, float) else "INT"


def check(given: Mapping[str, onnx.AttributeProto], form: Form, where: str) -> None:
    """Refuse attributes that the operator's form does not have, or lacks, or has as another kind.

    Raises:
        ModelError: Naming the attribute.
    """
    declared = form.attributes
    for name, proto in given.items():
        known = declared.get(name)
        if known is None:
            raise ModelError(
                f"{where} has no attribute {printable(name)!r}",
                f"Its attributes are: {', '.join(sorted(declared)) or 'none'}.",
            )
        if not proto.ref_attr_name and (kind := kind_of(proto)) != known.kind:
            raise ModelError(
                f"{where}: attribute {name!r} is of kind {kind}, not {known.kind}",
                "The exporter wrote an invalid file; export the model again.",
            )
    if len(given) < len(declared):
        for name, known in declared.items():
            if known.required and name not in given:
                raise ModelError(
                    f"{where} lacks its attribute {name!r}",
                    "The exporter wrote an invalid file; export the model again.",
                )
