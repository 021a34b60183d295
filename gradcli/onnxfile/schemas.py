"""What the standard says of each operator's form: asked of onnx once, and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gradcli.graph import CANONICAL_OPSET, DType
from gradcli.onnxfile.budget import MAX_OPSET, MIN_OPSET
from gradcli.onnxfile.names import text

STANDARD = ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training")
"""Domains whose every operator onnx knows: what it does not know does not exist."""

ONNXRUNTIME = frozenset({"SimplifiedLayerNormalization"})
"""Operators that onnxruntime's optimiser puts into ai.onnx, where the standard has none such."""

DTYPE_ATTRIBUTES = frozenset(
    {
        ("Cast", "to"),
        ("QuantizeLinear", "output_dtype"),
        ("DequantizeLinear", "output_dtype"),
        ("QuantizeLinear", "precision"),
        ("BitCast", "to"),
        ("EyeLike", "dtype"),
        ("Bernoulli", "dtype"),
        ("Multinomial", "dtype"),
        ("RandomNormal", "dtype"),
        ("RandomNormalLike", "dtype"),
        ("RandomUniform", "dtype"),
        ("RandomUniformLike", "dtype"),
        ("SequenceEmpty", "dtype"),
        ("BlackmanWindow", "output_datatype"),
        ("HannWindow", "output_datatype"),
        ("HammingWindow", "output_datatype"),
        ("MelWeightMatrix", "output_datatype"),
        ("QuantizeLinear", "output_dtype"),
        ("DequantizeLinear", "output_dtype"),
    }
)
"""Attributes that name an element type by its number; 0 stands for none."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an operator: its kind (`INT`, `FLOATS`, ...), and its default or None."""

    kind: str
    required: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Form:
    """One version of an operator.

    Attributes:
        since: The opset that it came with.
        inputs: Least and greatest number of inputs.
        outputs: Least and greatest number of outputs.
        required: For each place of an operand that must be there, its name; else empty.
        attributes: By name.
        deprecated: Whether the standard has taken the operator back.
        schema: onnx's own record.
    """

    since: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    required: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    deprecated: bool
    schema: Any


@lru_cache(maxsize=4096)
def form(op: str, domain: str, opset: int) -> Form | None:
    """The operator's form at this opset; None where onnx knows none."""
    import onnx

    try:
        # A version may be any int64, but onnx takes a C int.
        schema = onnx.defs.get_schema(op, max(0, min(opset, 2**30)), domain)
    except onnx.defs.SchemaError:
        return None
    attributes = {
        name: Attribute(
            str(attribute.type).rpartition(".")[2],
            attribute.required,
            _default(op, name, attribute.default_value),
        )
        for name, attribute in schema.attributes.items()
    }
    return Form(
        schema.since_version,
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        tuple(["" if _option(p) != "Single" else p.name for p in schema.inputs]),
        attributes,
        schema.deprecated,
        schema,
    )


def newest() -> int:
    """The newest opset that the installed onnx knows."""
    import onnx

    version: int = onnx.defs.onnx_opset_version()
    return version


def versions(op: str, domain: str) -> tuple[int, ...]:
    """The opsets that gave an operator a form, of those that are read; empty where onnx has none.

    For ai.onnx the first one is the form that the oldest opset has.
    """
    import onnx

    found = sorted(
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name == op and schema.domain == domain and not schema.deprecated
    )
    if domain:
        return tuple(found)
    start = max((version for version in found if version <= MIN_OPSET), default=0)
    return tuple(version for version in found if start <= version <= MAX_OPSET)


def _option(parameter: Any) -> str:
    return str(parameter.option).rpartition(".")[2]


def _default(op: str, name: str, proto: Any) -> Any:
    import onnx

    if not proto.type:
        return None
    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        value = text(value)
    if isinstance(value, list):
        value = tuple(text(v) if isinstance(v, bytes) else v for v in value)
    return dtype_name(value) if (op, name) in DTYPE_ATTRIBUTES else value


def dtype_name(number: int) -> str | None:
    """The name of the element type of this number; None where there is none."""
    from gradcli.onnxfile.tensors import CODES

    return CODES[number].value if number in CODES else None


@lru_cache(maxsize=4096)
def canonical(op: str, domain: str, opset: int) -> Form | None:
    """The form that Nodes have: that of opset 21, or the first one after it.

    Args:
        op: Operator name.
        domain: Its domain.
        opset: The version of the domain that the file imports, for domains beside ai.onnx.
    """
    if domain:
        return form(op, domain, opset)
    for version in range(CANONICAL_OPSET, MAX_OPSET + 1):
        found = form(op, domain, version)
        if found is not None:
            return found
    return None


@lru_cache(maxsize=1024)
def later_defaults(op: str, opset: int) -> Mapping[str, Any]:
    """Attributes that the operator gained after its canonical form, with their defaults."""
    return {**_UNSEEN.get(op, {}), **_later(form(op, "", opset), canonical(op, "", opset))}


_UNSEEN: dict[str, Mapping[str, Any]] = {
    "Attention": {"left_window_size": -1, "right_window_size": -1}
}
"""Likewise, of opsets that the oldest onnx allowed does not know."""


@lru_cache(maxsize=4096)
def needs(
    op: str,
    attributes: frozenset[str],
    inputs: tuple[DType | None, ...],
    outputs: tuple[DType | None, ...],
    floor: int,
) -> int:
    """The lowest opset, from `floor` on, at which ai.onnx has such an application of an operator.

    Args:
        op: Operator name.
        attributes: Names of the attributes that are given.
        inputs: Element types of the operands; None where one is absent.
        outputs: Element types of the results; None where one is not wanted.
        floor: Where to begin, and the answer where no opset has it.
    """
    for version in range(floor, MAX_OPSET + 1):
        found = form(op, "", version)
        if (
            found is not None
            and not found.deprecated
            and attributes <= found.attributes.keys()
            and _takes(found.schema.inputs, inputs)
            and _takes(found.schema.outputs, outputs)
        ):
            return version
    return floor


_SPELLING = {
    "float32": "float",
    "float64": "double",
    "str": "string",
    "float8_e8m0fnu": "float8e8m0",
    "float4_e2m1fn": "float4e2m1",
}


def _takes(parameters: Sequence[Any], dtypes: tuple[DType | None, ...]) -> bool:
    """Whether values of these types may stand in these places; the last place may repeat."""
    if dtypes and not parameters:
        return False
    for k, dtype in enumerate(dtypes):
        if k >= len(parameters) and _option(parameters[-1]) != "Variadic":
            return False
        if dtype is not None:
            name = _SPELLING.get(dtype.value, dtype.value.replace("float8_", "float8"))
            if f"tensor({name})" not in parameters[min(k, len(parameters) - 1)].types:
                return False
    return True


def _later(now: Form | None, base: Form | None) -> Mapping[str, Any]:
    if now is None or base is None or now.since <= base.since:
        return {}
    return {
        name: attribute.default
        for name, attribute in now.attributes.items()
        if name not in base.attributes
    }


@lru_cache(maxsize=256)
def ml_version(op: str, attributes: frozenset[str]) -> int:
    """The lowest version of ai.onnx.ml that has this operator with these attributes."""
    for version in range(1, 6):
        found = form(op, "ai.onnx.ml", version)
        if found is not None and not found.deprecated and attributes <= found.attributes.keys():
            return version
    return 1
