"""From a file's messages to a Graph: names resolved, functions inlined, old forms upgraded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcli.errors import ModelError
from gradcli.graph import Builder, DType, Graph, OpTable, Shape, Value, Var
from gradcli.onnxfile import attributes, canonical, schemas
from gradcli.onnxfile.budget import MAX_OPSET, MIN_OPSET, Budget, Meter
from gradcli.onnxfile.call import Call
from gradcli.onnxfile.draft import Draft
from gradcli.onnxfile.external import Folder
from gradcli.onnxfile.frame import Frame, Name
from gradcli.onnxfile.functions import Functions, domain_of
from gradcli.onnxfile.infer import shape_of
from gradcli.onnxfile.names import printable, text
from gradcli.onnxfile.order import in_order
from gradcli.onnxfile.tensors import Tensors, element_type

if TYPE_CHECKING:
    import onnx

NO_OPSETS: Mapping[str, int] = MappingProxyType({})

EXPORT_AGAIN = "The exporter wrote an invalid file; export the model again."


class Reader:
    """Reads one parsed file.

    Args:
        proto: The file.
        table: gradcli's operator table.
        budget: Limits.
        path: The file's display name.
        folder: Where its external data lies.
    """

    def __init__(
        self, proto: onnx.ModelProto, table: OpTable, budget: Budget, path: str, folder: Folder
    ) -> None:
        self.proto = proto
        self.table = table
        self.budget = budget
        self.path = path
        self.tensors = Tensors(Meter(budget, path, proto.ByteSize()), folder)
        self.functions = Functions(proto.functions, budget, path)
        self.opsets = self._opsets(proto.opset_import, f"{path}:")
        self.raw_names: dict[str, Name] = {}
        self.overridable: tuple[str, ...] = ()
        self.mapped: dict[str, np.ndarray] = {}
        self.unzipped: list[str] = []

    def read(self) -> Graph:
        """The file's graph, in canonical form.

        Raises:
            ModelError: For whatever is malformed, unknown or too large.
        """
        graph = self.proto.graph
        self.functions.check(graph)
        frame = Frame(Draft(Builder(self.table)), self.opsets)
        return self._graph(graph, frame)

    # ---- versions -----------------------------------------------------------------------------

    def _opsets(
        self,
        imports: Sequence[onnx.OperatorSetIdProto],
        where: str,
        base: Mapping[str, int] = NO_OPSETS,
    ) -> dict[str, int]:
        opsets: dict[str, int] = {}
        for entry in imports:
            domain = domain_of(entry.domain)
            known = opsets.setdefault(domain, entry.version)
            if known != entry.version and domain == "":
                raise ModelError(
                    f"{where} imports both opset {known} and opset {entry.version}", EXPORT_AGAIN
                )
            # onnxruntime takes the newest of several imports of one domain.
            opsets[domain] = max(known, entry.version)
        opsets = {**base, **opsets}
        version = opsets.get("")
        if version is not None and not MIN_OPSET <= version <= MAX_OPSET:
            raise ModelError(
                f"{where} is of opset {version}, but gradcli reads {MIN_OPSET} to {MAX_OPSET}",
                "Convert it with onnx.version_converter, or export it with another opset.",
            )
        return opsets

    # ---- graphs -------------------------------------------------------------------------------

    def _graph(self, proto: onnx.GraphProto, frame: Frame) -> Graph:
        b = frame.draft.b
        for name in _defined(proto):
            if name and name not in frame.shown:
                # The user's own names come first, so that no made-up name takes one.
                frame.shown[name] = b.name(printable(name))
        if frame.parent is None:
            self.raw_names = {shown: raw for raw, shown in frame.shown.items()}
        self._constants(proto, frame)
        self._inputs(proto, frame)
        for node in in_order(proto.node):
            self._node(node, frame)
        outputs = [self._output(value.name, frame) for value in proto.output]
        if not outputs and frame.parent is None:
            raise ModelError(f"{self.path}: its graph has no outputs", EXPORT_AGAIN)
        b.captures = tuple(frame.captured)
        return b.graph(outputs, printable(proto.name))

    def _constants(self, proto: onnx.GraphProto, frame: Frame) -> None:
        for tensor in proto.initializer:
            self._define_constant(tensor.name, self.tensors.array, tensor, frame)
            if frame.parent is None and tensor.data_location == tensor.EXTERNAL:
                constants = frame.draft.b.constants
                self.mapped[frame.shown[tensor.name]] = constants[frame.values[tensor.name].value]  # type: ignore[union-attr] # just defined
        for sparse in proto.sparse_initializer:
            self._define_constant(sparse.values.name, self.tensors.sparse, sparse, frame)

    def _define_constant(self, name: Name, read: Any, proto: Any, frame: Frame) -> None:
        if not name:
            raise ModelError(f"{self.path}: a constant has no name", EXPORT_AGAIN)
        dtype, array = read(proto, printable(name))
        self._constant(name, dtype, array, frame)

    def _constant(self, name: Name, dtype: DType, array: np.ndarray, frame: Frame) -> None:
        self._check_new(name, frame, "a constant")
        value = Value(frame.name_of(name), dtype, array.shape)
        frame.draft.b.constants[value] = array
        frame.values[name] = frame.draft.b.var(value)

    def _inputs(self, proto: onnx.GraphProto, frame: Frame) -> None:
        initialised = set(frame.values)
        overridable: list[str] = []
        for place, info in enumerate(proto.input):
            if info.name in initialised:
                initialised.discard(info.name)
                overridable.append(frame.shown[info.name])
                continue
            self._check_new(info.name, frame, "a graph input")
            dtype, shape = self._type(info, frame, place)
            value = Value(frame.name_of(info.name), dtype, shape)
            frame.draft.b.inputs.append(value)
            frame.values[info.name] = frame.draft.b.var(value)
        if frame.parent is None:
            self.overridable = tuple(overridable)

    def _type(
        self, info: onnx.ValueInfoProto, frame: Frame, place: int
    ) -> tuple[DType, Shape | None]:
        where = f"{self.path}: input {printable(info.name)!r}"
        kind = info.type.WhichOneof("value")
        if frame.parent is not None and kind in (None, "tensor_type"):
            # A body's parameters get their types from outside; many exporters leave them out.
            code = info.type.tensor_type.elem_type
            dtype = element_type(code, where) if code else frame.parameter(place)
        elif frame.parent is not None and kind in ("sequence_type", "optional_type"):
            return _element_type(info.type, where) or frame.parameter(place), None
        elif kind != "tensor_type":
            what = (kind or "nothing").removesuffix("_type").replace("_", " ")
            raise ModelError(
                f"{where} is declared as {what}, but gradcli takes tensors only",
                "Cut the model so that all its inputs are tensors (onnx.utils.extract_model).",
            )
        else:
            dtype = element_type(info.type.tensor_type.elem_type, where)
        tensor = info.type.tensor_type
        if not tensor.HasField("shape"):
            return dtype, None
        if len(tensor.shape.dim) > self.budget.rank:
            raise ModelError(f"{where} has {len(tensor.shape.dim)} dimensions")
        for dim in tensor.shape.dim:
            # Many exporters write -1 for a size that is not fixed.
            if dim.dim_value < -1:
                raise ModelError(f"{where} has a dimension of {dim.dim_value}", EXPORT_AGAIN)
        return dtype, shape_of(frame.draft.b, tensor.shape)

    def _output(self, name: Name, frame: Frame) -> Var:
        if name not in frame.values and frame.parent is not None:
            # A body may give back an outer value as it is.
            outer = self._read(name, frame, f"{self.path}: a body's output")
            if outer is not None:
                return frame.draft.op("Identity", outer)
        found = self._read(name, frame, f"{self.path}: the graph's output")
        if found is None:
            raise ModelError(f"{self.path}: output {printable(name)!r} is never made", EXPORT_AGAIN)
        return found

    def _check_new(self, name: Name, frame: Frame, what: str) -> None:
        if not name:
            raise ModelError(f"{self.path}: {what} has no name", EXPORT_AGAIN)
        if name in frame.values:
            raise ModelError(
                f"{self.path}: {what} is called {printable(name)!r}, as another value already is",
                EXPORT_AGAIN,
            )

    # ---- nodes --------------------------------------------------------------------------------

    def _node(self, proto: onnx.NodeProto, frame: Frame) -> None:
        op, domain = text(proto.op_type), domain_of(proto.domain)
        outputs: list[Name] = list(proto.output)
        for name in outputs:
            if name:
                self._check_new(name, frame, f"an output of node {printable(proto.name or op)!r}")
        first = next((frame.name_of(name) for name in outputs if name), printable(op))
        function = self.functions.find(proto)
        label = frame.node_name(proto.name, first, taken=function is None)
        where = f"{self.path}: node {label!r} ({printable(op)}"
        if function is not None:
            self._call(proto, function, label, f"{where}, a function of the file)", frame)
            return
        opset = frame.opsets.get(domain)
        where += f", {printable(domain) + ' ' if domain else ''}opset {opset})"
        if opset is None:
            raise ModelError(
                f"{self.path}: node {label!r} ({printable(op)}) is of domain"
                f" {printable(domain) or 'ai.onnx'}, which the file does not import",
                EXPORT_AGAIN,
            )
        form = schemas.form(op, domain, opset)
        if form is None:
            self._check_known(op, domain, where)
        given = {text(attribute.name): attribute for attribute in proto.attribute}
        if len(given) < len(proto.attribute):
            raise ModelError(f"{where} gives an attribute twice", EXPORT_AGAIN)
        if form is not None and not form.deprecated:
            attributes.check(given, form, where)
            _check_count(len(proto.input), form.inputs, "inputs", where)
            _check_count(len(outputs), form.outputs, "outputs", where)
        operands = tuple([self._read(name, frame, where) if name else None for name in proto.input])
        if form is not None:
            _check_required(operands, form, where)
        attrs = self._attributes(given, op, frame, where, operands) if given else {}
        if op == "Constant" and not domain:
            self._constant_node(attrs, outputs, frame, where)
            return
        call = Call(
            op,
            domain,
            operands,
            attrs,
            tuple([frame.name_of(name) if name else None for name in outputs]),
            label,
            opset,
            where,
        )
        calls: tuple[Call, ...] = (call,)
        if (domain, op) == ("ai.onnx.ml", "ZipMap"):
            self.unzipped += [name for name in call.outputs if name]
        if form is not None:
            frame.draft.serve(label)
            calls = canonical.upgrade(frame.draft, call, form)
        made = {v.value.name: v for c in calls for v in frame.draft.emit(c) if v is not None}
        for name in outputs:
            if name:
                frame.values[name] = made[frame.shown[name]]

    def _check_known(self, op: str, domain: str, where: str) -> None:
        if domain == "com.microsoft.nchwc":
            raise ModelError(
                f"{where} computes in blocks of channels that fit the machine it was saved on",
                "Save the optimised model with onnxruntime's level 'extended' or lower.",
            )
        newer = not domain and self.opsets.get("", 0) > schemas.newest()
        newer |= not domain and op in schemas.ONNXRUNTIME
        if domain in schemas.STANDARD and not (newer and op in self.table):
            later = min(schemas.versions(op, domain), default=None)
            raise ModelError(
                f"{where} is no operator that this opset has",
                f"The operator came with opset {later}: export the model again with that or a newer"
                " one."
                if later
                else "The exporter wrote an invalid file; if the operator is newer than the"
                " installed onnx, upgrade that.",
            )

    def _read(self, name: Name, frame: Frame, where: str) -> Var | None:
        try:
            return frame.lookup(name)
        except KeyError:
            pass
        shown = printable(name)
        around: Frame | None = frame
        while around is not None:
            if name in around.shown:
                raise ModelError(
                    f"{where} reads {shown!r} before it is made: the nodes go around in a circle",
                    EXPORT_AGAIN,
                )
            around = around.parent
        raise ModelError(f"{where} reads {shown!r}, which nothing makes", EXPORT_AGAIN)

    def _attributes(
        self,
        given: Mapping[str, onnx.AttributeProto],
        op: str,
        frame: Frame,
        where: str,
        operands: tuple[Var | None, ...] = (),
    ) -> dict[str, Any]:
        attrs: dict[str, Any] = {}
        for name, proto in given.items():
            if proto.ref_attr_name:
                if frame.arguments is None:
                    raise ModelError(f"{where} refers to a function's attribute outside any")
                value = frame.arguments.get(text(proto.ref_attr_name))
                if (op, name) in schemas.DTYPE_ATTRIBUTES and isinstance(value, int):
                    value = element_type(value, f"{where}: {name}").value if value else None
            else:
                value = attributes.decode(
                    proto, op, self.tensors, lambda g: self._body(g, frame, op, operands), where
                )
            if value is not None:
                attrs[name] = value
        return attrs

    def _body(
        self, proto: onnx.GraphProto, frame: Frame, op: str, operands: tuple[Var | None, ...]
    ) -> Graph:
        builder = Builder(self.table)
        # One count for all bodies: equal made-up symbols would claim equal sizes.
        builder._counter = frame.draft.b._counter
        return self._graph(
            proto,
            Frame(
                Draft(builder),
                frame.opsets,
                parent=frame,
                arguments=frame.arguments,
                depth=frame.depth + 1,
                node_names=frame.node_names,
                parameters=_parameters(op, operands),
            ),
        )

    def _constant_node(
        self, attrs: Mapping[str, Any], outputs: list[Name], frame: Frame, where: str
    ) -> None:
        if len(attrs) != 1 or len(outputs) != 1:
            raise ModelError(f"{where} needs exactly one value and one output", EXPORT_AGAIN)
        ((kind, value),) = attrs.items()
        if kind in ("value", "sparse_value"):
            array = value
        elif kind.startswith("value_string"):
            array = np.array(value, dtype=object)
        else:
            array = np.array(value, np.float32 if kind.startswith("value_float") else np.int64)
        array.setflags(write=False)
        self._constant(outputs[0], DType.of(array), array, frame)

    # ---- functions ----------------------------------------------------------------------------

    def _call(
        self,
        proto: onnx.NodeProto,
        function: onnx.FunctionProto,
        label: str,
        where: str,
        frame: Frame,
    ) -> None:
        """Inline a call: the function's nodes join the caller's graph, named behind the call."""
        if len(proto.input) > len(function.input) or len(proto.output) > len(function.output):
            raise ModelError(f"{where} has more inputs or outputs than the function", EXPORT_AGAIN)
        opsets = self._opsets(function.opset_import, where, frame.opsets)
        inner = Frame(
            frame.draft,
            opsets,
            prefix=label,
            arguments=self._arguments(proto, function, frame, where),
            depth=frame.depth + 1,
            node_names=frame.node_names,
        )
        operands = [self._read(name, frame, where) if name else None for name in proto.input]
        for k, name in enumerate(function.input):
            self._check_new(name, inner, "a function's parameter")
            inner.values[name] = operands[k] if k < len(operands) else None
        for name, outer in zip(function.output, proto.output, strict=False):
            if outer and name not in inner.values:
                inner.shown.setdefault(name, frame.name_of(outer))
        for node in in_order(function.node):
            self._node(node, inner)
        for name, outer in zip(function.output, proto.output, strict=False):
            if outer:
                frame.values[outer] = self._result(name, frame.name_of(outer), inner, where)

    def _arguments(
        self,
        proto: onnx.NodeProto,
        function: onnx.FunctionProto,
        frame: Frame,
        where: str,
    ) -> dict[str, Any]:
        defaults = {text(attribute.name): attribute for attribute in function.attribute_proto}
        given = {text(attribute.name): attribute for attribute in proto.attribute}
        required = set(map(text, function.attribute))
        if unknown := given.keys() - defaults.keys() - required:
            names = ", ".join(sorted(map(printable, unknown))[:3])
            raise ModelError(f"{where} gives the unknown attribute {names}", EXPORT_AGAIN)
        if missing := required - given.keys():
            names = ", ".join(sorted(map(printable, missing))[:3])
            raise ModelError(f"{where} lacks the attribute {names}", EXPORT_AGAIN)
        return self._attributes({**defaults, **given}, text(function.name), frame, where)

    def _result(self, name: Name, outer: str, inner: Frame, where: str) -> Var:
        if name not in inner.values:
            raise ModelError(f"{where} never makes its output {printable(name)!r}", EXPORT_AGAIN)
        value = inner.values[name]
        if value is None:
            raise ModelError(f"{where} gives back a parameter that was left out", EXPORT_AGAIN)
        if value.value.name == outer:
            return value
        # A parameter handed through, or one value given back twice.
        call = Call("Identity", "", (value,), {}, (outer,), outer, 21, where)
        (made,) = inner.draft.emit(call)
        assert made is not None
        return made


def _defined(proto: onnx.GraphProto) -> list[Name]:
    """Every name that the graph itself defines."""
    names: list[Name] = [info.name for info in proto.input]
    names += [tensor.name for tensor in proto.initializer]
    names += [sparse.values.name for sparse in proto.sparse_initializer]
    for node in proto.node:
        names += node.output
    return names


def _parameters(op: str, operands: tuple[Var | None, ...]) -> tuple[DType, ...]:
    """Element types of a body's parameters, by its node's operands."""
    given = tuple([DType.FLOAT32 if x is None else x.dtype for x in operands])
    # A Loop's body also gets the trip's number and the condition.
    return (DType.INT64, DType.BOOL, *given[2:]) if op == "Loop" else given


def _element_type(proto: onnx.TypeProto, where: str) -> DType | None:
    """The type of the elements of the tensors in a sequence or an optional value."""
    while (kind := proto.WhichOneof("value")) in ("sequence_type", "optional_type"):
        proto = getattr(proto, kind).elem_type
    code = proto.tensor_type.elem_type
    return element_type(code, where) if code else None


def _check_required(operands: tuple[Var | None, ...], form: schemas.Form, where: str) -> None:
    for k, name in enumerate(form.required):
        if name and (k >= len(operands) or operands[k] is None):
            raise ModelError(f"{where} lacks its input {name!r}", EXPORT_AGAIN)


def _check_count(count: int, allowed: tuple[int, int], what: str, where: str) -> None:
    least, most = allowed
    if not least <= count <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise ModelError(f"{where} has {count} {what}, not {wanted}", EXPORT_AGAIN)
