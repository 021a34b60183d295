"""What can be said of a model without running it: its operators, and where derivatives die."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradcli import onnxfile
from gradcli.graph import DType, Graph, Node, Shape, Value
from gradcli.onnxfile import Model
from gradcli.ops import OPS, Card, Table
from gradcli.ops.control import CONTROL, Control
from gradcli.transform.rewrite import carriers, ending, operand
from gradcli.transform.unroll import sequences

Nature = Literal["smooth", "kinked", "flat", "opaque", "control flow", "no card"]
"""How an operator behaves under differentiation.

smooth: differentiable wherever it is defined; kinked: its derivative jumps somewhere; flat: its
derivative is zero almost everywhere; opaque: it has none; control flow: it is what stands in its
place at a point, be it its bodies or the tensors of a sequence; no card: gradcli does not know it.
"""


@dataclass(frozen=True)
class Coverage:
    """One operator that gradcli knows.

    Attributes:
        domain: Its domain; `ai.onnx` for the standard's own.
        op: Its name.
        kind: The kind of its card; `control flow` for what is written out at a point.
        nature: See Nature; never `no card`.
        differentiable: The operands through which derivatives flow.
        flat: The others that may hold floats, each with the reason.
        convention: What is taken for the derivative at a kink; what stands in the place of control
            flow.
        edge: What lies where its domain ends.
        versions: The opsets that gave it another form, of those that are read.
    """

    domain: str
    op: str
    kind: str
    nature: Nature
    differentiable: tuple[str, ...]
    flat: Mapping[str, str]
    convention: str
    edge: str
    versions: tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """An input or output: its name, element type, and shape as declared or inferred.

    It may be a sequence of such tensors, or an optional one, of no known shape.
    """

    name: str
    dtype: DType
    shape: Shape | None
    sequence: bool = False


@dataclass(frozen=True)
class Used:
    """An operator of a model.

    Attributes:
        op: Its full name.
        count: How often it stands in the model, bodies included.
        nature: See Nature.
        why: Why it is flat or opaque, or what holds at its kinks.
    """

    op: str
    count: int
    nature: Nature
    why: str


@dataclass(frozen=True)
class Death:
    """Where a derivative ends.

    Attributes:
        node: The node's name.
        op: Its operator.
        operand: The operand that it comes in by.
        why: Why nothing comes out.
    """

    node: str
    op: str
    operand: str
    why: str


@dataclass(frozen=True)
class Flow:
    """What becomes of the derivative with respect to one input.

    Attributes:
        input: Its name.
        reaches: Float outputs that the derivative reaches.
        misses: Float outputs that hang on the input, but through no operand that carries a
            derivative.
        independent: Float outputs that do not hang on the input at all.
        deaths: For those missed: where the ways to them end.
        unknown: Operators without a card on the ways to those reached, which make that a guess.
        why: Why nothing can be asked at all: the input holds no floats.
    """

    input: str
    reaches: tuple[str, ...] = ()
    misses: tuple[str, ...] = ()
    independent: tuple[str, ...] = ()
    deaths: tuple[Death, ...] = ()
    unknown: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Inspection:
    """What a model is made of.

    Attributes:
        path: What to call the file.
        sha256: Of its bytes.
        file_bytes: Its size, external data aside.
        producer: The program that says it wrote it.
        opsets: Version by domain.
        inputs: What a run must be given.
        overridable: Constants that a run may give too.
        outputs: What a run gives back.
        nodes: How many operators there are, local functions inlined, bodies included.
        parameters: How many numbers its constants hold.
        parameter_bytes: And how many bytes.
        external: Whether some lie in other files.
        operators: Each operator, the most frequent first.
        flows: One for each input.
    """

    path: str
    sha256: str
    file_bytes: int
    producer: str
    opsets: Mapping[str, int]
    inputs: tuple[Tensor, ...]
    overridable: tuple[str, ...]
    outputs: tuple[Tensor, ...]
    nodes: int
    parameters: int
    parameter_bytes: int
    external: bool
    operators: tuple[Used, ...]
    flows: tuple[Flow, ...]


# ---- operators ----------------------------------------------------------------------------------


def nature(key: str, table: Table = OPS) -> Nature:
    """How an operator behaves under differentiation."""
    card = table.get(key)
    if key in CONTROL:
        return "flat" if CONTROL[key].is_flat else "control flow"
    if card is None:
        return "no card"
    if card.is_flat:
        return "flat"
    if card.kind == "opaque":
        return "opaque"
    return "kinked" if card.kinks is not None else "smooth"


def coverage(table: Table = OPS) -> tuple[Coverage, ...]:
    """Every operator with a card, and all control flow, by domain and name."""
    known = [*map(_covered, table.values()), *map(_written_out, CONTROL.values())]
    return tuple(sorted(known, key=lambda c: (c.domain, c.op)))


def _written_out(control: Control) -> Coverage:
    return Coverage(
        "ai.onnx",
        control.op,
        "control flow",
        nature(control.op),
        control.carries,
        {"": control.reason} if control.is_flat else dict(control.flat),
        control.becomes,
        "",
        onnxfile.versions(control.op, ""),
    )


def _covered(card: Card) -> Coverage:
    domain, op = _names(card.op)
    carries = not card.is_flat and card.kind != "opaque"
    names = [name.rstrip("?*") for name in card.inputs]
    return Coverage(
        domain,
        op,
        card.kind,
        nature(card.op, Table((card,))),
        tuple(name for name in names if carries and name not in card.flat),
        dict(card.flat) if carries else {"": card.reason},
        card.convention,
        card.edge,
        onnxfile.versions(op, "" if domain == "ai.onnx" else domain),
    )


def _names(key: str) -> tuple[str, str]:
    domain, _, op = key.rpartition("::")
    return domain or "ai.onnx", op


# ---- a model ------------------------------------------------------------------------------------


def inspect(model: Model, table: Table = OPS) -> Inspection:
    """Look at a model without running it.

    Args:
        model: As it was read.
        table: Cards.
    """
    graph = model.graph
    nodes = list(_all_nodes(graph))
    constants = list(_all_constants(graph))
    counts = Counter(node.key for node in nodes)
    no_tensors = sequences(graph)
    return Inspection(
        model.path,
        model.sha256,
        len(model.data),
        model.producer,
        dict(model.opsets),
        tuple(Tensor(v.name, v.dtype, v.shape) for v in graph.inputs),
        model.overridable,
        tuple(Tensor(v.name, v.dtype, v.shape, v in no_tensors) for v in graph.outputs),
        len(nodes),
        sum(array.size for array in constants),
        sum(array.nbytes for array in constants),
        model.external,
        tuple(
            Used(op, count, nature(op, table), _why(op, table))
            for op, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ),
        tuple(_flow(graph, value, table) for value in graph.inputs),
    )


def _why(key: str, table: Table) -> str:
    card = table.get(key)
    if key in CONTROL:
        control = CONTROL[key]
        return control.reason or f"differentiated as {control.becomes}"
    if card is None:
        return "gradcli does not know it"
    return card.reason or card.convention


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for body in node.subgraphs():
            yield from _all_nodes(body)


def _all_constants(graph: Graph) -> Iterator[np.ndarray]:
    yield from graph.constants.values()
    for node in graph.nodes:
        for body in node.subgraphs():
            yield from _all_constants(body)


def _flow(graph: Graph, value: Value, table: Table) -> Flow:
    if not value.dtype.is_float:
        return Flow(value.name, why=f"it holds {value.dtype.value}, and only floats can be varied")
    alive, touched = _reach(graph, value, table)
    outputs = [v for v in graph.outputs if v.dtype.is_float]
    misses = [v for v in outputs if v in touched and v not in alive]
    unknown = {
        node.key
        for node in _leading(graph, [v for v in outputs if v in alive])
        if nature(node.key, table) == "no card" and any(v in alive for v in node.reads())
    }
    return Flow(
        value.name,
        tuple(v.name for v in outputs if v in alive),
        tuple(v.name for v in misses),
        tuple(v.name for v in outputs if v not in touched),
        tuple(_deaths(graph, alive, misses, table)),
        tuple(sorted(unknown)),
    )


def _reach(graph: Graph, value: Value, table: Table) -> tuple[set[Value], set[Value]]:
    """The values that a derivative reaches, and those that hang on the input in any way."""
    alive, touched = {value}, {value}
    for node in graph.nodes:
        if any(v in touched for v in node.reads()):
            touched.update(node.makes())
            if any(v in alive for v in carriers(node, table.get(node.key))):
                alive.update(v for v in node.makes() if v.dtype.is_float)
    return alive, touched


def _deaths(
    graph: Graph, alive: set[Value], missed: Sequence[Value], table: Table
) -> Iterator[Death]:
    """The nodes at which the ways to what is missed leave what a derivative reaches."""
    for node in _leading(graph, missed):
        card = table.get(node.key)
        end = ending(node, alive, card)
        if end is not None:
            place, why = end
            yield Death(node.name, node.key, "" if card is None else operand(card, place), why)


def _leading(graph: Graph, ends: Sequence[Value]) -> list[Node]:
    """The nodes that some values are computed by."""
    leads, found = set(ends), []
    for node in reversed(graph.nodes):
        if any(v in leads for v in node.makes()):
            leads.update(node.reads())
            found.append(node)
    return found[::-1]
