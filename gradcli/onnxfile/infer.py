"""Types of operators that gradcli has no card for: what the standard says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gradcli.errors import GradcliError
from gradcli.graph import CANONICAL_OPSET, Builder, DType, Graph, Shape, Type, Value
from gradcli.onnxfile import schemas
from gradcli.onnxfile.attributes import encode
from gradcli.onnxfile.names import printable
from gradcli.onnxfile.tensors import CODES, NUMBERS, to_proto

if TYPE_CHECKING:
    import onnx

    from gradcli.onnxfile.call import Call

_SMALL = 1024
"""Only constants of so many elements can be shapes, axes or counts, and are shown to inference."""


def infer(
    b: Builder,
    call: Call,
    operands: list[Value | None],
    attrs: Mapping[str, Any],
    outputs: int,
) -> list[Type]:
    """dtype and shape of each result; float32 of unknown rank where nobody can say.

    One node at a time, so bodies and inlined functions are covered, weights are never copied, and
    no shape that the file claims is believed.
    """
    unknown: list[Type] = [(DType.FLOAT32, None)] * outputs
    if not call.domain and call.op in _SEQUENCES:
        return [(_SEQUENCES[call.op] or _element_type(operands, attrs), None)]
    bodies = [value for value in attrs.values() if isinstance(value, Graph)]
    if bodies:
        return (_control(b, call, bodies, attrs) + unknown)[:outputs]
    # The newest form in play: it has the canonical one's attributes, and those born since.
    opset = call.opset if call.domain else max(call.opset, CANONICAL_OPSET)
    form = schemas.form(call.op, call.domain, opset)
    if form is None:
        return unknown
    return _standard(b, call, operands, attrs, form, outputs)


_SEQUENCES: Mapping[str, DType | None] = {
    "SequenceEmpty": None,
    "SequenceConstruct": None,
    "SequenceAt": None,
    "SequenceInsert": None,
    "SequenceErase": None,
    "SequenceLength": DType.INT64,
    "ConcatFromSequence": None,
    "SplitToSequence": None,
    "Optional": None,
    "OptionalHasElement": DType.BOOL,
    "OptionalGetElement": None,
}
"""Operators on sequences and optional values, and the element type of their results; None where it
is that of the tensors in the first operand."""


def _element_type(operands: Sequence[Value | None], attrs: Mapping[str, Any]) -> DType:
    first = next((x for x in operands if x is not None), None)
    if first is not None:
        return first.dtype
    return DType(attrs["dtype"]) if attrs.get("dtype") else DType.FLOAT32


def _standard(
    b: Builder,
    call: Call,
    operands: list[Value | None],
    attrs: Mapping[str, Any],
    form: schemas.Form,
    outputs: int,
) -> list[Type]:
    import onnx

    node = onnx.NodeProto(op_type=call.op, domain=call.domain)
    node.output.extend(f"y{k}" for k in range(outputs))
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for k, value in enumerate(operands):
        node.input.append("" if value is None else f"x{k}")
        if value is None:
            continue
        types[f"x{k}"] = type_proto(value)
        array = b.constants.get(value)
        if array is not None and array.size <= _SMALL:
            data[f"x{k}"] = to_proto(f"x{k}", value.dtype, array)
    invalid = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError)
    try:
        for name, value in attrs.items():
            if value is not None:
                node.attribute.append(encode(name, value, call.op, form, _no_graph))
        found = onnx.shape_inference.infer_node_outputs(form.schema, node, types, data)
    except (GradcliError, RuntimeError, TypeError, ValueError, *invalid):
        # Not knowing a type is no failure: the shape is then unknown, and whoever needs it says so.
        found = {}
    return [_type(b, found.get(f"y{k}")) for k in range(outputs)]


def _no_graph(graph: Graph) -> onnx.GraphProto:
    raise TypeError(f"no body {graph.name!r} is needed here")


def _control(b: Builder, call: Call, bodies: list[Graph], attrs: Mapping[str, Any]) -> list[Type]:
    """Results of If, Loop and Scan, by their bodies' outputs."""
    first = bodies[0].outputs
    if call.op == "If":
        others = bodies[-1].outputs
        return [
            (v.dtype, v.shape if v.shape == w.shape else None)
            for v, w in zip(first, others, strict=False)
        ]
    if call.op == "Loop":
        carried = max(len(call.inputs) - 2, 0)
        first = first[1:]
    elif call.op == "Scan":
        carried = len(call.inputs) - int(attrs.get("num_scan_inputs") or 0)
    elif call.op == "SequenceMap":
        return [(v.dtype, None) for v in first]
    else:
        return []
    types: list[Type] = []
    for k, value in enumerate(first):
        if k < carried:
            # The body may change a carried value's shape from one trip to the next.
            operand = call.inputs[k + 2 if call.op == "Loop" else k]
            same = operand is not None and operand.shape == value.shape
            types.append((value.dtype, value.shape if same else None))
        else:
            axes = attrs.get("scan_output_axes") or ()
            axis = axes[k - carried] if k - carried < len(axes) else 0
            types.append((value.dtype, _stacked(b, value.shape, axis)))
    return types


def _stacked(b: Builder, shape: Shape | None, axis: int) -> Shape | None:
    if shape is None:
        return None
    at = axis + len(shape) + 1 if axis < 0 else axis
    return (*shape[:at], *b.fresh(1), *shape[at:])


def type_proto(value: Value) -> onnx.TypeProto:
    """A value's type as a message; made-up symbols stay unnamed."""
    import onnx

    proto = onnx.TypeProto()
    tensor = proto.tensor_type
    tensor.elem_type = NUMBERS[value.dtype]
    if value.shape is not None:
        tensor.shape.SetInParent()
        for size in value.shape:
            dim = tensor.shape.dim.add()
            if isinstance(size, int):
                dim.dim_value = size
            elif not size.startswith("?"):
                dim.dim_param = size
    return proto


def _type(b: Builder, proto: onnx.TypeProto | None) -> Type:
    if proto is None or not proto.HasField("tensor_type"):
        return (DType.FLOAT32, None)
    tensor = proto.tensor_type
    dtype = CODES.get(tensor.elem_type, DType.FLOAT32)
    return dtype, shape_of(b, tensor.shape) if tensor.HasField("shape") else None


def shape_of(b: Builder, proto: onnx.TensorShapeProto) -> Shape:
    """A shape in the file's form as ours; a dimension without size or name becomes a new symbol.

    Some exporters call every dimension that they do not know "?": those are not equal.
    """
    dims: list[int | str] = []
    for dim in proto.dim:
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            dims.append(dim.dim_value)
        elif dim.dim_param and printable(dim.dim_param)[0] != "?":
            dims.append(printable(dim.dim_param))
        else:
            dims += b.fresh(1)
    return tuple(dims)
