"""Local functions of a file: found by name, and counted before any is inlined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from gradcli.errors import ModelError
from gradcli.onnxfile.budget import Budget
from gradcli.onnxfile.names import printable, text

if TYPE_CHECKING:
    import onnx

Key = tuple[str, str, str]

_WIDE = 64


def domain_of(name: str | bytes) -> str:
    """A domain's name, the standard's own always as the empty string."""
    name = text(name)
    return "" if name == "ai.onnx" else name


def _key(domain: str | bytes, name: str | bytes, overload: str | bytes) -> Key:
    return domain_of(domain), text(name), text(overload)


class Functions:
    """The local functions of one file.

    Args:
        protos: Their messages.
        budget: Limits on nodes and depth.
        path: The file's name, for refusals.

    Raises:
        ModelError: When two have one name.
    """

    def __init__(self, protos: Iterable[onnx.FunctionProto], budget: Budget, path: str) -> None:
        self.budget = budget
        self.path = path
        self._by_key: dict[Key, onnx.FunctionProto] = {}
        for proto in protos:
            key = _key(proto.domain, proto.name, proto.overload)
            if key in self._by_key:
                raise ModelError(f"{path}: function {printable(proto.name)!r} is defined twice")
            self._by_key[key] = proto
        self._sizes: dict[Key, tuple[int, int]] = {}
        self._open: set[Key] = set()

    def find(self, node: onnx.NodeProto) -> onnx.FunctionProto | None:
        """The function that the node calls; None for an operator."""
        if not self._by_key:
            return None
        return self._by_key.get(_key(node.domain, node.op_type, node.overload))

    def check(self, graph: onnx.GraphProto) -> None:
        """Count the nodes of the graph with all its functions inlined, without inlining any.

        Raises:
            ModelError: When there are more than the budget allows, or functions call themselves.
        """
        count, depth = self._measure(graph.node, 0)
        if count > self.budget.nodes:
            inlined = " once its functions are inlined" if count > len(graph.node) else ""
            raise ModelError(
                f"{self.path}: has {count:,} nodes{inlined}, above the limit of"
                f" {self.budget.nodes:,}",
                "Use a smaller model, or raise Budget.nodes if you trust the file.",
            )
        if depth > self.budget.depth:
            self._too_deep()

    def _too_deep(self) -> None:
        raise ModelError(
            f"{self.path}: its functions and control flow nest more than {self.budget.depth} deep",
            "Use a flatter model, or raise Budget.depth if you trust the file.",
        )

    def _measure(self, nodes: Iterable[onnx.NodeProto], level: int) -> tuple[int, int]:
        """Number of nodes after inlining, and depth of nesting below this level."""
        if level > self.budget.depth:
            self._too_deep()
        count = depth = 0
        for node in nodes:
            function = self.find(node)
            # A node of very many operands is as much work as that many nodes.
            count += (len(node.input) + len(node.output)) // _WIDE
            if function is None:
                count += 1
            else:
                inner, below = self._function(function, level)
                count += inner
                depth = max(depth, below + 1)
            for body in _bodies(node):
                inner, below = self._measure(body.node, level + 1)
                count += inner
                depth = max(depth, below + 1)
        return count, depth

    def _function(self, function: onnx.FunctionProto, level: int) -> tuple[int, int]:
        key = _key(function.domain, function.name, function.overload)
        if key in self._open:
            raise ModelError(
                f"{self.path}: function {printable(function.name)!r} calls itself",
                "Functions of an ONNX file cannot be recursive; export the model again.",
            )
        if key not in self._sizes:
            self._open.add(key)
            count, depth = self._measure(function.node, level + 1)
            self._sizes[key] = count + len(function.input) // _WIDE, depth
            self._open.discard(key)
        return self._sizes[key]


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
