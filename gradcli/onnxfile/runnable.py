"""A model's original bytes made ready for a runtime that must not open files by itself."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gradcli.errors import UsageError
from gradcli.graph import Graph, Node
from gradcli.onnxfile.budget import Budget, Meter
from gradcli.onnxfile.external import Folder
from gradcli.onnxfile.model import Model
from gradcli.onnxfile.source import parse
from gradcli.onnxfile.tensors import Tensors, to_proto

if TYPE_CHECKING:
    import onnx

IN_FLOAT32 = 1
"""The accuracy_level of a product that is computed in float32."""

_IDENTITY = 13
"""An opset with Identity, for a file that uses none of ai.onnx."""


def runnable(model: Model, extra_outputs: Iterable[str] = ()) -> bytes:
    """The file's bytes, changed only where they must be.

    External tensors of bodies and attributes are moved into the file, since a runtime can be handed
    only those of the graph itself (`model.mapped`) from outside. ZipMap becomes Identity: the maps
    that it makes are what no method can compare. And a MatMulNBits that allows its operand to be
    rounded computes without that: whether and how it would be is a kernel's own choice.

    Args:
        model: The model.
        extra_outputs: Values of the graph to add to its outputs, by the names they have there.

    Raises:
        UsageError: When one of them is not in the file.
    """
    extra = tuple(extra_outputs)
    rounded = rounded_products(model)
    if not extra and not model.external and not model.unzipped and not rounded:
        return model.data
    proto = parse(model.data, model.path)
    changed = bool(extra or model.unzipped or rounded)
    if rounded:
        _in_full(proto)
    if model.unzipped:
        _unzip(proto)
    for tensor in _inner_tensors(proto):
        if tensor.data_location == tensor.EXTERNAL:
            _embed(tensor, model)
            changed = True
    known = _names(proto.graph)
    for name in extra:
        raw = model.raw_names.get(name, name)
        if isinstance(raw, bytes) or raw not in known:
            near = difflib.get_close_matches(name, [k for k in known if isinstance(k, str)], 3)
            raise UsageError(
                f"{model.path}: the file itself has no value {name!r}",
                f"Did you mean {' or '.join(map(repr, near))}?" if near else "",
            )
        # A name alone will do: the runtime infers the type.
        proto.graph.output.add(name=raw)
    return proto.SerializeToString() if changed else model.data


def rounded_products(model: Model) -> list[str]:
    """The nodes that allow a kernel to round an operand, by an accuracy_level below float32's."""
    return [node.name for node in _all_nodes(model.graph) if _level(node) > IN_FLOAT32]


def _level(node: Node) -> int:
    return int(node.attrs["accuracy_level"]) if node.key == "com.microsoft::MatMulNBits" else 0


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for body in node.subgraphs():
            yield from _all_nodes(body)


def _in_full(proto: onnx.ModelProto) -> None:
    for node in _proto_nodes(proto):
        if node.op_type == "MatMulNBits":
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = IN_FLOAT32


def _proto_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    ahead = [*proto.graph.node, *(node for f in proto.functions for node in f.node)]
    while ahead:
        node = ahead.pop()
        yield node
        for attribute in node.attribute:
            ahead += [n for g in (attribute.g, *attribute.graphs) for n in g.node]


def tensors_of(model: Model) -> set[str]:
    """The values of the graph that the file itself has, and a runtime can give back."""
    known = _names(parse(model.data, model.path).graph)
    return {v.name for v in model.graph.values() if model.raw_names.get(v.name, v.name) in known}


def _unzip(proto: onnx.ModelProto) -> None:
    tensors: set[str] = set()
    for node in proto.graph.node:
        if (node.domain, node.op_type) == ("ai.onnx.ml", "ZipMap"):
            node.domain, node.op_type = "", "Identity"
            del node.attribute[:]
            tensors.update(node.output)
    for info in (*proto.graph.output, *proto.graph.value_info):
        if info.name in tensors:
            info.ClearField("type")
    if all(entry.domain not in ("", "ai.onnx") for entry in proto.opset_import):
        proto.opset_import.add(domain="", version=_IDENTITY)


def _names(graph: onnx.GraphProto) -> set[str | bytes]:
    names: set[str | bytes] = {info.name for info in graph.input}
    names.update(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        names.update(node.output)
    return names


def _embed(tensor: onnx.TensorProto, model: Model) -> None:
    tensors = Tensors(Meter(Budget(), model.path), Folder(model.folder, model.path))
    dtype, array = tensors.array(tensor, tensor.name)
    tensor.CopyFrom(to_proto(tensor.name, dtype, array))


def _inner_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the file but the main graph's initializers."""
    for sparse in proto.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in proto.graph.node:
        yield from _of_node(node)
    for function in proto.functions:
        for attribute in function.attribute_proto:
            yield from _of_attribute(attribute)
        for node in function.node:
            yield from _of_node(node)


def _of_node(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield from _of_attribute(attribute)


def _of_attribute(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            yield from _of_node(node)
