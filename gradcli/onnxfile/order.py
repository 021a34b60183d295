"""The order of a file's nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def in_order(nodes: Sequence[onnx.NodeProto]) -> Sequence[onnx.NodeProto]:
    """The nodes as they stand, or, where one reads what a later one makes, sorted.

    The standard wants them sorted, but onnxruntime reads them in any order, and its converter to
    float16 appends the casts of inputs at the end. Nodes in a circle stay as they are.
    """
    makers = {name: k for k in reversed(range(len(nodes))) for name in nodes[k].output if name}
    before = [{makers[name] for name in _reads(node) if name in makers} for node in nodes]
    if all(max(made, default=-1) < k for k, made in enumerate(before)):
        return nodes
    try:
        return [nodes[k] for k in TopologicalSorter(dict(enumerate(before))).static_order()]
    except CycleError:
        return nodes


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, its bodies included."""
    yield from node.input
    bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    while bodies:
        body = bodies.pop()
        yield from (value.name for value in body.output)
        for inner in body.node:
            yield from inner.input
            bodies += [attribute.g for attribute in inner.attribute if attribute.HasField("g")]
