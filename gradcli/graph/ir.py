"""The graph that everything in gradcli reads and makes.

    Graph  ::= inputs, outputs: Value*   nodes: Node*   constants: Value -> array
    Node   ::= op(domain), inputs: (Value | absent)*, outputs: (Value | unused)*, attrs
    Value  ::= name, dtype, shape

Single assignment: a Value is an identity, made once, by being an input, a constant or one node's
output. Nodes stand in topological order. Everything is frozen, so graphs share their parts: a
derivative graph holds the very nodes of its primal. A Node is one ONNX operator in canonical form
(that of opset 21, or of its own first opset if it was born later).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from gradcli.errors import InternalError
from gradcli.graph.dtypes import DType, Shape, is_static

CANONICAL_OPSET = 21
"""The opset whose operator forms nodes have: the newest that onnxruntime runs throughout."""

NO_ATTRS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """One tensor of a graph, before it has numbers. Compared by identity."""

    name: str
    dtype: DType
    shape: Shape | None

    def __repr__(self) -> str:
        dims = "?" if self.shape is None else ",".join(map(str, self.shape))
        return f"{self.name}:{self.dtype.value}[{dims}]"


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """One application of an ONNX operator.

    Attributes:
        op: Operator name, such as `Conv`.
        inputs: Operands in the operator's order; None where an optional one is left out.
        outputs: Results in the operator's order; None where one is not wanted.
        attrs: Every attribute of the canonical form, defaults filled in. Values are Python
            scalars, strings, tuples of them, NumPy arrays or Graphs.
        domain: Operator domain; empty for ai.onnx.
        name: The node's name in the user's file, or a made one.
        origin: For a derived node, the name of the primal node that it serves; else empty.
    """

    op: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value | None, ...]
    attrs: Mapping[str, Any] = field(default_factory=lambda: NO_ATTRS)
    domain: str = ""
    name: str = ""
    origin: str = ""

    @property
    def key(self) -> str:
        """The operator's full name: `Conv`, or `com.microsoft::FusedConv`."""
        return f"{self.domain}::{self.op}" if self.domain else self.op

    def reads(self) -> list[Value]:
        """Every value this node needs: its operands, and what its subgraphs capture."""
        values = [value for value in self.inputs if value is not None]
        for graph in self.subgraphs():
            values += graph.captures
        return values

    def makes(self) -> list[Value]:
        """Every value this node defines."""
        return [value for value in self.outputs if value is not None]

    def subgraphs(self) -> list[Graph]:
        """The bodies that this node carries (If, Loop, Scan)."""
        return [a for a in self.attrs.values() if isinstance(a, Graph)] if self.attrs else []

    def on(self, inputs: Sequence[Value | None], outputs: Sequence[Value | None]) -> Node:
        """The same operator, under the same names, from other operands to other results."""
        # Not dataclasses.replace, which takes longer than all else that a pass does with a node.
        return Node(
            self.op,
            tuple(inputs),
            tuple(outputs),
            self.attrs,
            self.domain,
            self.name,
            self.origin,
        )

    def __repr__(self) -> str:
        return f"{list(self.outputs)} = {self.key}{list(self.inputs)}"


@dataclass(frozen=True, eq=False)
class Graph:
    """A network, or a derivative of one: a checked list of nodes in topological order.

    Attributes:
        inputs: What a run must be given.
        outputs: What a run gives back, under these values' names.
        nodes: Operators in an order in which each reads only what stands before it.
        constants: Weights and other fixed tensors, with their (read-only) arrays.
        captures: For a body of If, Loop or Scan, the outer values that it reads.
        name: The model's own name, if it had one.

    Raises:
        InternalError: On construction, when an invariant does not hold: a value made twice or
            read before it is made, a name used twice, an array unlike its value.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[Value, np.ndarray] = field(default_factory=dict)
    captures: tuple[Value, ...] = ()
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "constants", MappingProxyType(dict(self.constants)))
        _check(self)

    def values(self) -> Iterator[Value]:
        """Every value of this graph, in the order of definition (captures are not its own)."""
        yield from self.inputs
        yield from self.constants
        for node in self.nodes:
            yield from node.makes()

    def value(self, name: str) -> Value | None:
        """The value of this name, or None."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, Value]:
        return {v.name: v for v in self.values()}

    def producers(self) -> dict[Value, Node]:
        """For each value that a node makes, that node."""
        return {value: node for node in self.nodes for value in node.makes()}

    def consumers(self) -> Counter[Value]:
        """How often each value is read, by nodes and as a graph output."""
        counts = Counter(value for node in self.nodes for value in node.reads())
        counts.update(self.outputs)
        return counts


def _check(graph: Graph) -> None:
    defined: set[Value] = set(graph.captures)
    names: set[str] = set()

    def define(value: Value, where: str) -> None:
        if value in defined:
            raise InternalError(f"value {value.name!r} is made twice ({where})")
        if value.name in names:
            raise InternalError(f"two values are called {value.name!r} ({where})")
        defined.add(value)
        names.add(value.name)

    for value in graph.inputs:
        define(value, "graph input")
    for value, array in graph.constants.items():
        define(value, "constant")
        if value.dtype is not DType.STRING and array.dtype != value.dtype.np:
            raise InternalError(f"constant {value!r} holds {array.dtype} elements")
        if is_static(value.shape) and array.shape != value.shape:
            raise InternalError(f"constant {value!r} holds an array of shape {array.shape}")
    for node in graph.nodes:
        for value in node.reads():
            if value not in defined:
                raise InternalError(f"node {node.name!r} reads {value.name!r} before it is made")
        for value in node.makes():
            define(value, f"node {node.name!r}")
    for value in graph.outputs:
        if value not in defined:
            raise InternalError(f"graph output {value.name!r} is never made")
