"""The walk that specialises a graph: types inferred anew, constants computed, bodies written out.

`specialise` starts it, `unroll` says how each operator of control flow is written out on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from gradcli import deadline
from gradcli.errors import InternalError, UnfitError
from gradcli.graph import Graph, Node, Value, Var
from gradcli.graph.dtypes import DType, Shape, is_static
from gradcli.ops import Table
from gradcli.transform.choices import Choice, Choices, Way, plain
from gradcli.transform.fold import ALWAYS, fold
from gradcli.transform.rewrite import Rewriter, Vars, identity
from gradcli.transform.unfold import Folded

ABSENT: Literal["absent"] = "absent"
"""What an optional value holds that is empty."""

Held = tuple[Var, ...] | Literal["absent"]

Resolve = Callable[["Specialiser", Node], bool]
"""Writes out one node, and says whether it could."""

SMALL = 1 << 16
"""Bytes up to which floats are folded too: scales and sizes computed on the way to a shape."""

FOLDED, LITTLE = 1 << 28, 1 << 10
"""Bytes that are computed within bodies in all, and how small a result may be after that: a file of
a few bytes can ask for gigabytes, step by step."""


class Specialiser(Rewriter):
    """Walks a graph and the bodies in it.

    Args:
        graph: The graph.
        table: Cards.
        keep: Names of tensors whose values count as unknown.
        shapes: By name, what is known of shapes.
        choices: What is known of choices.
        folded: Is told how float constants were computed.
        resolve: How each operator of control flow and of sequences is written out.
        in_trips: How others are, within the trips of a loop.

    Attributes:
        held: For a value of the new graph that is a sequence: the tensors in it; for an optional
            one that is empty: ABSENT.
        open: Values of the new graph that undecided control flow makes.
        walked: What the body of a loop, while it is written, captures of the old graph, each with
            the number of trips.
        columns: By value of the new graph and axis: its elements along that.
    """

    def __init__(
        self,
        graph: Graph,
        table: Table,
        keep: frozenset[str],
        shapes: Mapping[str, Shape],
        choices: Choices,
        folded: Folded,
        resolve: Mapping[str, Resolve],
        in_trips: Mapping[str, Resolve],
    ) -> None:
        super().__init__(graph, table)
        self.resolve, self.in_trips = resolve, in_trips
        self.folded = folded
        self.choices = choices
        self.keep = keep
        self.shapes = shapes
        self.held: dict[Value, Held] = {}
        self.open: set[Value] = set()
        self.walked: dict[Value, int] = {}
        self.columns: dict[tuple[Value, int], list[Var]] = {}
        self._steps: tuple[int, ...] = ()
        self._depth = 0
        self._folded = 0

    # ---- nodes --------------------------------------------------------------------------------

    def visit(self, node: Node) -> None:
        """Compute the node, or its types, or write out what it is here."""
        if node.key in self.resolve:
            wanted = self._depth or self.choices.wants(node)
            if wanted and self._resolved(node, self.resolve[node.key]):
                return
            self._unknown(node)
            self.open.update(self.env[v].value for v in node.makes())
        elif (arrays := self._known(node)) is not None:
            made = zip(node.outputs, arrays, strict=False)
            results = [
                None if v is None or a is None else self.constant(v.name, a) for v, a in made
            ]
            self.folded.note(node, self.operands(node), results)
            self.become(node, results)
        elif (
            self.walked
            and node.key in self.in_trips
            and self._resolved(node, self.in_trips[node.key])
        ):
            return
        elif node.key in self.table:
            self._infer(node)
        else:
            self._unknown(node)
        if node.key == "Identity":
            self._hand_on(node)
        for value in node.makes():
            if value.name in self.shapes and not is_static(self.env[value].shape):
                self._declare(value)

    def _resolved(self, node: Node, resolve: Resolve) -> bool:
        try:
            return resolve(self, node)
        except (ValueError, IndexError, AssertionError) as error:
            raise self.unfit(node, error) from error

    def _hand_on(self, node: Node) -> None:
        """What is known of a sequence is known of the same under another name."""
        (x,), (y,) = self.operands(node), (self.env[v].value for v in node.makes())
        if x is not None and x.value in self.held:
            self.held[y] = self.held[x.value]
        if x is not None and x.value in self.open:
            self.open.add(y)

    def hold(self, node: Node, held: Held) -> None:
        """Keep a node whose result is a sequence (dead once all is decided), and what is in it."""
        self._unknown(node)
        for value in node.makes():
            self.held[self.env[value].value] = held

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
        limit = SMALL if floats else ALWAYS
        if self._folded > FOLDED:
            limit = LITTLE
        found = fold(self.b, node, operands, self.table, limit, grown=False)
        if found is not None and self._depth:
            self._folded += sum(a.nbytes for a in found if a is not None)
        return found

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
            raise self.unfit(node, error) from error

    def unfit(self, node: Node, error: Exception) -> UnfitError:
        """The error that says that a node cannot take its operands."""
        operands = self.operands(node)
        shapes = ", ".join("absent" if x is None else str(x.shape) for x in operands)
        return UnfitError(
            f"node {node.name!r} ({node.key}) cannot take operands of shape {shapes}: {error}",
            "give the inputs the shapes that the model was made for, with --input or --shape",
        )

    # ---- control flow -------------------------------------------------------------------------

    def choose(self, x: Var) -> Choice | None:
        """What a tensor holds that structure hangs on; None where that is not known."""
        if x.const is not None and x.value.name not in self.keep:
            return plain(x.const)
        return self.choices.of(self.b, x.value)

    def went(self, node: Node, what: str) -> None:
        """Note which way a node went by numbers that are no constants."""
        self.choices.ways.append(Way(node.name, node.key, what, self._depth > 0))

    def write(
        self,
        node: Node,
        body: Graph,
        operands: Vars,
        step: int | None = None,
        trips: int | None = None,
    ) -> list[Var]:
        """A body's nodes on these operands, here; names that are taken get a number.

        Args:
            node: Whose body it is.
            body: The body.
            operands: One for each of its inputs.
            step: Of a body that is written out again and again: which time this is, from 0. Its
                values and nodes bear it in their names.
            trips: How often it will be, where that is known.

        Returns:
            The body's results.
        """
        deadline.check()
        self.choices.count(1 + len(body.nodes), node)
        for value, array in body.constants.items():
            if value not in self.env:  # shared by all steps
                made = Value(self.b.name(value.name), value.dtype, array.shape)
                self.env[value] = self.b.adopt_constant(made, array)
        for value, x in zip(body.inputs, operands, strict=True):
            if x is not None:
                self.env[value] = x
        before, walked = self._steps, self.walked
        self._steps = before if step is None else (*before, step)
        self.walked = dict.fromkeys(body.captures, trips) if trips else {}
        self._depth += 1
        for inner in body.nodes:
            self._write(inner)
        self._depth -= 1
        self._steps, self.walked = before, walked
        return [self.env[value] for value in body.outputs]

    def _write(self, inner: Node) -> None:
        at = "".join(f"/{k}" for k in self._steps)
        outputs = tuple(
            None if v is None else Value(self.b.name(v.name + at), v.dtype, v.shape)
            for v in inner.outputs
        )
        self.visit(
            Node(
                inner.op,
                inner.inputs,
                outputs,
                inner.attrs,
                inner.domain,
                self.at_step(inner.name),
                self.at_step(inner.origin),
            )
        )
        for old, new in zip(inner.outputs, outputs, strict=True):
            if old is not None and new is not None:
                self.env[old] = self.env.pop(new)

    def at_step(self, name: str) -> str:
        """The name of a node of a body, with the step that it is written out for."""
        steps = ".".join(map(str, self._steps))
        return f"{name} [step {steps}]" if steps and name else name

    def emit(
        self, serves: Node, op: str, *inputs: Var, outputs: int = 1, **attrs: Any
    ) -> tuple[Var, ...]:
        """A helper node that serves another one, computed where its operands are known."""
        names = (self.b.name(f"{serves.name}/{op.lower()}") for _ in range(outputs))
        made = tuple(Value(name, inputs[0].dtype, None) for name in names)
        for x in inputs:
            self.env[x.value] = x
        given = tuple(x.value for x in inputs)
        full = self.table.attributes(op, attrs)
        self.visit(Node(op, given, made, full, "", made[0].name, serves.name))
        return tuple(self.env[v] for v in made)

    def stand(self, node: Node, results: Vars) -> None:
        """Let these values stand for a node's results, under their names."""
        for old, x in zip(node.outputs, results, strict=False):
            if old is None or x is None:
                continue
            if self._depth:
                self.env[old] = x  # nobody can ask for a value inside a body
            else:
                self.env[x.value] = x
                self.visit(replace(identity(old), inputs=(x.value,)))
