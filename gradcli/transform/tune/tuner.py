"""What every rewrite is made of: a row of the table, and a Rewriter that looks around."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradcli.graph import DType, Graph, Node, Value, Var
from gradcli.ops import Table
from gradcli.transform.rewrite import Rewriter

STEP_SLOPE = 2.0**127
"""The slope that makes HardSigmoid a step: 1 from the smallest normal float32 on."""

BOUND_SLOPE = 2.0**60
"""The slope of such a step at a bound other than 0: steep enough for the next float32 there."""

BLOCKED_CHANNELS = 8
"""Channels from which onnxruntime's blocked convolution (NCHWc) pays."""

BLOCK = 16
"""A multiple of which channels must be, to be blocked with AVX2 (8) and with AVX-512 (16)."""


class Tuner(Rewriter):
    """A Rewriter that also looks at what made a value, and at what else was made of it."""

    def __init__(self, graph: Graph, table: Table, cpu_threads: int | None) -> None:
        super().__init__(graph, table)
        self.on_cpu = cpu_threads is not None
        self.one_thread = cpu_threads == 1
        self.interleaved: dict[Value, tuple[Var, int]] = {}  # what a DepthToSpace is made of
        self.adopt_inputs()
        self.producers = graph.producers()
        self.reads = Counter(v for n in graph.nodes for v in n.reads()) + Counter(graph.outputs)
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

    def is_blocked(self, x: Value | None) -> bool:
        """Whether onnxruntime can hold this tensor in blocked layout (NCHWc)."""
        shape = None if x is None or not self.on_cpu else x.shape
        if shape is None or len(shape) != 4 or x is None or x.dtype is not DType.FLOAT32:
            return False
        return isinstance(shape[1], int) and shape[1] % BLOCK == 0

    def depthwise(
        self, x: Var, kernel: np.ndarray, *, bias: float = 0.0, plus: Var | None = None, **how: Any
    ) -> Var:
        """One convolution for all channels of x, [N, C, H, W], a sum and an activation: one pass.

        Args:
            x: A tensor that may be blocked, see `is_blocked`.
            kernel: [kh, kw], the same for every channel.
            bias: The same for every channel.
            plus: What is added, before the activation.
            **how: Attributes of com.microsoft's FusedConv.
        """
        assert x.shape is not None
        channels = int(x.shape[1])
        weight = np.tile(kernel.astype(np.float32), (channels, 1, 1, 1))
        operands = (self.b.constant(weight), self.b.constant(np.full(channels, bias, np.float32)))
        how = {"kernel_shape": kernel.shape, "group": channels, **how}
        return self.b.op("com.microsoft::FusedConv", x, *operands, plus, **how)

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
