"""Fix the shapes of a graph to those of given inputs, and compute what follows from them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from gradcli.errors import InternalError, ModelError
from gradcli.graph import Graph, Node, Value, Var, burst
from gradcli.graph.dtypes import DType, Shape, is_static
from gradcli.ops import OPS, Table
from gradcli.transform.fold import ALWAYS, fold
from gradcli.transform.rewrite import Rewriter, identity

SMALL = 1 << 16
"""Bytes up to which floats are folded too: scales and sizes computed on the way to a shape."""


@burst()
def specialise(
    graph: Graph,
    shapes: Mapping[str, tuple[int, ...]],
    values: Mapping[str, np.ndarray] | None = None,
    table: Table = OPS,
    keep: Collection[str] = (),
    conditions: Mapping[str, bool] | None = None,
) -> Graph:
    """The graph for inputs of these shapes: every type inferred anew, shape arithmetic done.

    What the file declares of shapes is dropped: only what the cards infer counts. Names of values
    and nodes stay; a computed value becomes a constant of its own name. The branch of an If whose
    condition is known stands in its place.

    Args:
        graph: The graph as read.
        shapes: By name: those of inputs, and those of further tensors as far as they are known from
            elsewhere, which count where the cards cannot tell.
        values: Inputs that become constants: integers that structure may hang on.
        table: Cards. A node without one is carried over as it is.
        keep: Names of tensors that will be varied: nothing is computed from their values, although
            they may be constants of the file.
        conditions: By name of the tensor: which way each If goes whose condition is known from
            elsewhere, such as from an evaluation at a point.

    Raises:
        ModelError: When shapes do not fit together; it names the node.
    """
    values = values or {}
    s = _Specialiser(graph, table, frozenset(keep), shapes, conditions or {})

    def retype(v: Value) -> tuple[DType, Shape | None]:
        return v.dtype, shapes.get(v.name, v.shape)

    s.adopt_inputs(retype)
    for value in graph.inputs:
        if value.name in values:
            s.b.inputs.remove(s.env[value].value)
            s.env[value] = s.constant(value.name, values[value.name].astype(value.dtype.np))
    for node in graph.nodes:
        s.visit(node)
    return s.finish()


class _Specialiser(Rewriter):
    def __init__(
        self,
        graph: Graph,
        table: Table,
        keep: frozenset[str],
        shapes: Mapping[str, tuple[int, ...]],
        conditions: Mapping[str, bool],
    ) -> None:
        super().__init__(graph, table)
        self.conditions = conditions
        self.keep = keep
        self.shapes = shapes

    def visit(self, node: Node) -> None:
        """Compute the node, or its types."""
        if node.key == "If" and (branch := self._branch(node)) is not None:
            self._inline(node, branch)
        elif (arrays := self._known(node)) is not None:
            made = zip(node.outputs, arrays, strict=False)
            self.become(
                node,
                [None if v is None or a is None else self.constant(v.name, a) for v, a in made],
            )
        elif node.key in self.table:
            self._infer(node)
        else:
            self._unknown(node)
        for value in node.makes():
            if value.name in self.shapes and not is_static(self.env[value].shape):
                self._declare(value)

    def _unknown(self, node: Node) -> None:
        """Carry over a node of whose results nothing is known but their dtypes."""
        self.become(node, self.typed(node, self.operands(node), [None] * len(node.outputs)))

    def _declare(self, value: Value) -> None:
        """Give what the last node made under this name the shape that is known of it."""
        node, old = self.b.nodes[-1], self.env[value].value
        new = Value(old.name, old.dtype, self.shapes[value.name])
        outputs = [new if v is old else v for v in node.outputs]
        self.b.nodes[-1] = node.on(node.inputs, outputs)
        self.env[value] = self.b.var(new)

    def constant(self, name: str, array: np.ndarray) -> Var:
        """A constant under exactly this name, so that it can still be found."""
        array = np.array(array)
        array.setflags(write=False)
        return self.b.adopt_constant(Value(name, DType.of(array), array.shape), array)

    def _known(self, node: Node) -> tuple[np.ndarray | None, ...] | None:
        operands = self.operands(node)
        shape_only = node.key in ("Shape", "Size")
        if not shape_only and any(x is not None and x.value.name in self.keep for x in operands):
            return None
        floats = any(v is not None and v.dtype.is_float for v in node.outputs)
        return fold(self.b, node, operands, self.table, SMALL if floats else ALWAYS, grown=False)

    def _infer(self, node: Node) -> None:
        operands = self.operands(node)
        try:
            self.become(node, self.b.copy(self.rebound(node), operands))
        except InternalError:
            if all(x is None or x.shape is not None for x in operands):
                raise
            # After an operator that is not known, not even ranks are.
            self._unknown(node)
        except (ValueError, IndexError, AssertionError) as error:
            shapes = ", ".join("absent" if x is None else str(x.shape) for x in operands)
            raise ModelError(
                f"node {node.name!r} ({node.key}) cannot take operands of shape {shapes}: {error}",
                "check that the inputs have the shapes that the model was made for",
            ) from error

    def _branch(self, node: Node) -> Graph | None:
        """The branch that an If takes, where its condition is known."""
        (condition,) = self.operands(node)
        if condition is None:
            return None
        holds = self.conditions.get(condition.value.name)
        if holds is None and condition.const is not None and condition.value.name not in self.keep:
            holds = bool(condition.const.reshape(()))
        if holds is None:
            return None
        graph: Graph = node.attrs["then_branch" if holds else "else_branch"]
        return graph

    def _inline(self, node: Node, branch: Graph) -> None:
        """The branch's nodes in place of the If; names that are taken get a number."""
        for value, array in branch.constants.items():
            self.env[value] = self.constant(self.b.name(value.name), array)
        for inner in branch.nodes:
            named = [
                None if v is None else Value(self.b.name(v.name), v.dtype, v.shape)
                for v in inner.outputs
            ]
            renamed = replace(inner, outputs=tuple(named))
            self.visit(renamed)
            for old, new in zip(inner.outputs, named, strict=True):
                if old is not None and new is not None:
                    self.env[old] = self.env[new]
        for old, inside in zip(node.outputs, branch.outputs, strict=True):
            if old is not None:
                self.visit(replace(identity(old), inputs=(inside,)))
