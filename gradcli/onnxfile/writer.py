"""From a Graph to the bytes of an ONNX file, under the graph's own names."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gradcli.errors import ModelError, OutputError
from gradcli.graph import CANONICAL_OPSET, Graph, Node, Value
from gradcli.onnxfile import schemas
from gradcli.onnxfile.attributes import encode
from gradcli.onnxfile.budget import MAX_OPSET
from gradcli.onnxfile.infer import type_proto
from gradcli.onnxfile.names import printable
from gradcli.onnxfile.place import MOST
from gradcli.onnxfile.stored import pointer
from gradcli.onnxfile.tensors import to_proto

if TYPE_CHECKING:
    import onnx

IR_VERSION = 10
"""The file format of opset 21, which onnxruntime reads since 1.19."""

_IR_BY_OPSET = {22: 10, 23: 11, 24: 12, 25: 13, 26: 13, 27: 14, 28: 14}
_LEAST_MAPPED = 1024
_INSERTED = "InsertedPrecisionFreeCast_"
"""What onnxruntime puts before a name where it casts float16, taken or not."""
_FLOOR_MOD = 28

NOTHING: Mapping[str, str] = MappingProxyType({})
NOWHERE: Mapping[Value, Mapping[str, str]] = MappingProxyType({})


def left_out(graph: Graph, embed: bool | int) -> tuple[Value, ...]:
    """The constants that `write` turns into graph inputs, in their order there.

    Args:
        graph: The graph.
        embed: True embeds every constant; a number those of at most so many bytes; False only small
            ones and those that may be shapes, axes or counts (all that are not floats).
    """
    if embed is True:
        return ()
    limit = max(int(embed), _LEAST_MAPPED)
    return tuple(
        value
        for value, array in graph.constants.items()
        if value.dtype.is_float and array.nbytes > limit
    )


def write(
    graph: Graph,
    *,
    opset: int = CANONICAL_OPSET,
    embed: bool | int = True,
    producer: str = "gradcli",
    doc: str = "",
    metadata: Mapping[str, str] = NOTHING,
    stored: Mapping[Value, Mapping[str, str]] = NOWHERE,
) -> bytes:
    """The graph as a model file.

    Args:
        graph: What to write; its values keep their names, but for inner ones that onnxruntime would
            take for its own.
        opset: The operator set to declare, 21 or later; a later one is declared where an operator
            or attribute was born later.
        embed: Which constants lie inside the file; `left_out` says which become inputs instead.
        producer: Who the file says made it.
        doc: What the file says that it is.
        metadata: Further facts that it holds, by name.
        stored: Constants whose data lies in other files, with ONNX's words for where.

    Raises:
        ModelError: When the file would exceed protobuf's 2 GiB, or an attribute cannot be written.
    """
    if not CANONICAL_OPSET <= opset <= MAX_OPSET:
        raise ModelError(
            f"a graph cannot be written as opset {opset}",
            f"Choose {CANONICAL_OPSET} to {MAX_OPSET}.",
        )
    import onnx
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped] # ships none

    model = onnx.ModelProto(producer_name=producer, doc_string=doc)
    for name, text in metadata.items():
        model.metadata_props.add(key=name, value=text)
    outside = left_out(graph, embed)
    away = {*outside, *stored}
    embedded = sum(a.nbytes for v, a in graph.constants.items() if v not in away)
    if embedded >= MOST:
        raise ModelError(
            f"the graph's constants take {embedded:,} bytes, more than one file can hold",
            "Write it to a file: what does not fit into that is put into another beside it.",
        )
    versions = _versions(graph, opset)
    model.ir_version = _IR_BY_OPSET.get(versions[""], IR_VERSION)
    for domain, version in versions.items():
        model.opset_import.add(domain=domain, version=version)
    _Writer(versions, stored).graph(graph, model.graph, outside, {})
    try:
        data: bytes = model.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError(f"the graph cannot be written ({error})") from error
    return data


def save(graph: Graph, path: str | os.PathLike[str], *, opset: int = CANONICAL_OPSET) -> None:
    """Write the graph to a file, whole or not at all.

    Raises:
        OutputError: When the file cannot be written; nothing is left behind then.
    """
    put(write(graph, opset=opset), path)


def put(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write bytes to a file, whole or not at all.

    Raises:
        OutputError: When the file cannot be written; nothing is left behind then.
    """
    target = Path(path)
    try:
        # In the same folder, since only there is the renaming one step.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(temporary).chmod(0o666 & ~_umask())
            Path(temporary).replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise OutputError(
            f"{printable(os.fspath(path))}: cannot be written ({error.strerror or error})",
            "Choose another place for the file.",
        ) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _versions(graph: Graph, opset: int) -> dict[str, int]:
    """For each domain in use, the version to declare."""
    versions = {"": opset}
    for node in graph.nodes:
        given = frozenset(_given(node))
        if node.domain == "":
            operands = tuple([None if v is None else v.dtype for v in node.inputs])
            results = tuple([None if v is None else v.dtype for v in node.outputs])
            versions[""] = schemas.needs(node.op, given, operands, results, versions[""])
            if _is_floor_mod(node):
                versions[""] = max(versions[""], _FLOOR_MOD)
        elif node.domain == "ai.onnx.ml":
            least = schemas.ml_version(node.op, given)
            versions[node.domain] = max(least, versions.get(node.domain, 1))
        else:
            versions[node.domain] = 1
        for body in node.subgraphs():
            for domain, version in _versions(body, versions[""]).items():
                versions[domain] = max(version, versions.get(domain, 1))
    return versions


def _given(node: Node) -> dict[str, Any]:
    """The attributes to be written: those that say something, and not what goes without saying.

    An attribute that the operator gained after its canonical form would, written at its default,
    demand an opset for nothing.
    """
    given = {name: value for name, value in node.attrs.items() if value is not None}
    if node.domain or not given:
        return given
    later = schemas.later_defaults(node.op, MAX_OPSET)
    return {k: v for k, v in given.items() if k not in later or v != later[k]} if later else given


def _is_floor_mod(node: Node) -> bool:
    """Whether this is Mod on floats with the divisor's sign: the types alone do not tell."""
    x = node.inputs[0] if node.op == "Mod" else None
    return x is not None and x.dtype.is_float and not node.attrs.get("fmod")


class _Writer:
    def __init__(
        self, versions: Mapping[str, int], stored: Mapping[Value, Mapping[str, str]]
    ) -> None:
        self.versions = versions
        self.stored = stored

    def graph(
        self,
        graph: Graph,
        proto: onnx.GraphProto,
        outside: tuple[Value, ...],
        outer: Mapping[Value, str],
        *,
        inner: bool = False,
    ) -> None:
        """Fill in the message; `outer` names the values of the graphs around a body."""
        taken = set(outer.values())
        names: dict[Value, str] = dict(outer)
        outward = {*graph.inputs, *graph.outputs, *outside}
        for value in graph.values():
            name, k = value.name, 1
            if name.startswith(_INSERTED) and value not in outward:
                # Of a file that onnxruntime has optimised, and will optimise again.
                name = f"value_{name}"
            # A body may have a name that is taken around it, which a file cannot.
            while name in taken or not name:
                k += 1
                name = f"{value.name or 'value'}_{k}"
            taken.add(name)
            names[value] = name
        proto.name = graph.name or "graph"
        for value in (*graph.inputs, *outside):
            info = proto.input.add(name=names[value])
            # What a body is given may be a sequence: where no rank is known, that is said outside.
            if value.shape is not None or not inner:
                info.type.CopyFrom(type_proto(value))
        skip = set(outside)
        for value, array in graph.constants.items():
            if value in self.stored:
                proto.initializer.append(pointer(names[value], value, array, self.stored[value]))
            elif value not in skip:
                proto.initializer.append(to_proto(names[value], value.dtype, array))
        for node in graph.nodes:
            proto.node.append(self.node(node, names))
        for value in dict.fromkeys(graph.outputs):
            result = proto.output.add(name=names[value])
            # Where not even the rank is known, the element type may be a guess: say nothing.
            if value.shape is not None:
                result.type.CopyFrom(type_proto(value))

    def node(self, node: Node, names: Mapping[Value, str]) -> onnx.NodeProto:
        """One node as a message."""
        import onnx

        proto = onnx.NodeProto(op_type=node.op, name=node.name, domain=node.domain)
        proto.input.extend(["" if v is None else names[v] for v in node.inputs])
        proto.output.extend(["" if v is None else names[v] for v in node.outputs])
        if node.attrs:
            form = schemas.form(node.op, node.domain, self.versions[node.domain])

            def body(graph: Graph) -> onnx.GraphProto:
                made = onnx.GraphProto()
                self.graph(graph, made, (), names, inner=True)
                return made

            proto.attribute.extend(
                encode(name, value, node.op, form, body) for name, value in _given(node).items()
            )
        return proto
