"""What every rewrite is made of: a row of the table, and a Rewriter that looks around."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradcli.graph import Graph, Node, Value, Var
from gradcli.ops import Table
from gradcli.transform.rewrite import Rewriter

STEP_SLOPE = 2.0**127
"""The slope that makes HardSigmoid a step: 1 from the smallest normal float32 on."""

BOUND_SLOPE = 2.0**60
"""The slope of such a step at a bound other than 0: steep enough for the next float32 there."""

BLOCKED_CHANNELS = 8
"""Channels from which onnxruntime's blocked convolution (NCHWc) pays."""


class Tuner(Rewriter):
    """A Rewriter that also looks at what made a value, and at what else was made of it."""

    def __init__(self, graph: Graph, table: Table, one_thread: bool) -> None:
        super().__init__(graph, table)
        self.one_thread = one_thread
        self.adopt_inputs()
        self.producers = graph.producers()
        self.relus = {n.inputs[0]: n.outputs[0] for n in graph.nodes if n.key == "Relu"}
        self.tanhs = {n.inputs[0]: n.outputs[0] for n in graph.nodes if n.key == "Tanh"}
        self._primal = {n.name: n for n in graph.nodes if not n.origin}

    def served(self, node: Node) -> Node | None:
        """The primal node that a derived node serves; None where it is unknown."""
        return self._primal.get(node.origin) if node.origin else None

    def serves(self, node: Node) -> str:
        """The operator of the primal node that a derived node serves; empty where it is unknown."""
        primal = self.served(node)
        return primal.key if primal else ""

    def may_multiply(self, node: Node) -> bool:
        """Whether a mask may be a product: 0 * infinity is NaN, and the mask may be there for that.

        A network's own Where often keeps away what is infinite or NaN on the other branch, a
        logarithm or a quotient; so does the Where that carries its tangents.
        """
        return self.serves(node) not in ("", "Where")

    def made_by(self, value: Value | None, op: str) -> Node | None:
        """The node that makes this value, if it is this operator."""
        node = None if value is None else self.producers.get(value)
        return node if node is not None and node.key == op else None

    def constant(self, value: Value | None) -> np.ndarray | None:
        """The array of a constant."""
        return None if value is None else self.old.constants.get(value)

    def is_number(self, value: Value | None, number: float) -> bool:
        """Whether this is a constant filled with one number."""
        array = self.constant(value)
        if array is not None:
            return array.size > 0 and bool(np.all(array == number))
        made = self.made_by(value, "ConstantOfShape")
        return made is not None and bool(np.all(made.attrs["value"] == number))


@dataclass(frozen=True)
class Row:
    """One rewrite.

    Attributes:
        name: What it does.
        figure: What it gained when it was measured.
        differs: Where its result is not bit for bit that of the canonical form.
        rewrite: The result in the new graph, or None where the row does not apply.
    """

    name: str
    figure: str
    differs: str
    rewrite: Callable[[Tuner, Node], Var | None]
