"""A network and its derivatives as equations between tensors, one for each named tensor.

The equations are those of the graphs that `transform.jvp` and `transform.vjp` make, written down:
so they hold for whatever operator has a card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradcli.errors import CannotError
from gradcli.formulas.names import Names
from gradcli.graph import Graph, Node, Value
from gradcli.problem import Problem
from gradcli.transform import Derivative, expand, jvp, simplify, vjp

MOST_NODES = 2000
"""Of a network that is written down: more is no formula that anybody reads."""

_SHORT = 8
"""Elements of a constant of whole numbers that is written where it is used."""


# ---- terms ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tensor:
    """A named tensor.

    Attributes:
        name: An identifier.
        mark: `dot` for its tangent, `bar` for its cotangent, else empty.
    """

    name: str
    mark: str = ""


@dataclass(frozen=True)
class Literal:
    """A number, or a short list of whole numbers, as it is written."""

    text: str


@dataclass(frozen=True)
class Apply:
    """An operator on terms.

    Attributes:
        node: The operator and its attributes.
        operands: Its operands; None where one is absent.
        output: Which of its results this is.
    """

    node: Node
    operands: tuple[Term | None, ...]
    output: int = 0


Term = Tensor | Literal | Apply


@dataclass(frozen=True)
class Equation:
    """One tensor, by others.

    Attributes:
        target: What it defines.
        shape: Of that.
        term: By what.
        origin: The tensor's name in the file, or an empty string where it has none.
    """

    target: Tensor
    shape: str
    term: Term
    origin: str = ""


@dataclass(frozen=True)
class Factor:
    """A factor of a Jacobian.

    Attributes:
        term: A matrix; of a diagonal one, its diagonal.
        kind: `diag`, `transposed` or `matrix`.
    """

    term: Term
    kind: str


@dataclass(frozen=True)
class System:
    """All that is said of a network.

    Attributes:
        given: Inputs, then weights: their names, shapes, and names in the file.
        primal: Equations of the network.
        forward: Of the tangents.
        backward: Of the cotangents.
        chain: The Jacobian as a product, where the network is a chain of products with weights and
            of functions of each element, at one point; else empty.
        labels: For each of `of` and `wrt`, its identifier.
    """

    given: tuple[tuple[str, str, str], ...]
    primal: tuple[Equation, ...]
    forward: tuple[Equation, ...]
    backward: tuple[Equation, ...]
    chain: tuple[Factor, ...]
    labels: Mapping[str, str]


# ---- from graphs ---------------------------------------------------------------------------------


def system(problem: Problem) -> System:
    """The equations of a problem.

    Raises:
        CannotError: When there are too many of them.
        UnsupportedError: When an operator has no rule.
    """
    table = problem.table
    graph = simplify(expand(problem.graph, table=table), table)
    if len(graph.nodes) > MOST_NODES:
        raise CannotError(
            f"the network has {len(graph.nodes):,} operators once it is written out, and a formula"
            f" is written of {MOST_NODES:,} at most",
            "ask for a part of it with --wrt and --of",
        )
    names = Names()
    named = {v: Tensor(names.give(v.name)) for v in graph.inputs}
    outputs = {v: Tensor(names.give(v.name)) for v in graph.outputs if v not in named}
    named |= outputs
    for values in (graph.constants, [v for node in graph.nodes for v in node.makes()]):
        for v in values:
            if v not in named and not _is_short(graph.constants.get(v)):
                named[v] = Tensor(names.give(v.name))
    primal = _Writer(graph, named, names)
    lines = primal.equations()
    pushed = jvp(graph, problem.wrt, problem.of, table, inner=True)
    pulled = vjp(graph, problem.wrt, problem.of, table, inner=True)
    forward = _Writer(pushed.graph, _marked(pushed, named, "dot"), names)
    backward = _Writer(pulled.graph, _marked(pulled, named, "bar"), names)
    own = {v for node in graph.nodes for v in node.makes()} | set(graph.inputs)
    pushed_lines, pulled_lines = forward.equations(own), backward.equations(own)
    used = primal.used | forward.used | backward.used
    given = [(named[v].name, _shape(v), v.name) for v in graph.inputs]
    given += [
        (t.name, _shape(v), v.name) for v, t in named.items() if v in graph.constants and t in used
    ]
    given += [
        (t.name, _shape(v), "")
        for writer in (forward, backward)
        for v, t in writer.made_up.items()
        if t in used
    ]
    ends = [*graph.inputs, *graph.outputs]
    return System(
        tuple(dict.fromkeys(given)),
        tuple(lines),
        tuple(pushed_lines),
        tuple(pulled_lines),
        _chain(pushed, problem, forward),
        {v.name: named[v].name for v in ends},
    )


def _is_short(array: np.ndarray | None) -> bool:
    """Whether a constant is written where it is used."""
    if array is None:
        return False
    return array.size == 1 or (array.dtype.kind in "iub" and array.size <= _SHORT)


def _marked(
    derivative: Derivative, named: Mapping[Value, Tensor], mark: str
) -> dict[Value, Tensor]:
    """The names of the primal, and those of the derivatives of what has one."""
    graph = derivative.graph
    makers = graph.producers()
    by_name = {v.name: (v, t) for v, t in named.items()}
    found = dict(named)
    for name, at in (*derivative.directions.items(), *derivative.results.items()):
        if name not in by_name:
            continue
        end = graph.value(at)
        assert end is not None
        # Results come out by an Identity: what it names is named, unless that has a name already.
        node = makers.get(end)
        inner = end if node is None or node.inputs[0] is None else node.inputs[0]
        target = Tensor(by_name[name][1].name, mark)
        found[end if inner in found else inner] = target
    return found


def _shape(value: Value) -> str:
    return "scalar" if value.shape == () else "×".join(map(str, value.shape or ("?",)))


class _Writer:
    """Writes a graph down: a line for each value with a name, all else where it is used.

    Args:
        graph: A primal, or a derivative with its primal in it.
        named: What each value is called.
        names: Gives further names, to what is used more than once.
    """

    def __init__(self, graph: Graph, named: Mapping[Value, Tensor], names: Names) -> None:
        self.graph = graph
        self.used: set[Tensor] = set()
        self.made_up: dict[Value, Tensor] = {}
        self._named = dict(named)
        self._names = names
        self._alive = self._needed()
        uses = graph.consumers()
        for node in graph.nodes:
            if len(node.makes()) == 1 and (uses[node.makes()[0]] == 1 or self._is_slight(node)):
                continue
            for v in node.makes():
                if v not in self._named and v in self._alive:
                    self._named[v] = Tensor(names.count("s"))

    def _is_slight(self, node: Node) -> bool:
        """Whether a node is no longer than a name for it: -x, 2x."""
        others = [v for v in node.reads() if not _is_short(self.graph.constants.get(v))]
        named = len(others) == 1 and others[0] in self._named
        return not node.domain and node.op in ("Neg", "Mul", "Add") and named

    @cached_property
    def _makers(self) -> Mapping[Value, Node]:
        return self.graph.producers()

    def _needed(self) -> set[Value]:
        """What is asked for, and all that it is made of."""
        needed = set(self.graph.outputs)
        for node in reversed(self.graph.nodes):
            if any(v in needed for v in node.makes()):
                needed.update(node.reads())
        return needed

    def equations(self, known: set[Value] | None = None) -> list[Equation]:
        """A line for each named value that is needed, but for what is known already."""
        lines: list[Equation] = []
        others: dict[Tensor, list[Equation]] = {}
        for node in self.graph.nodes:
            for k, v in enumerate(node.outputs):
                if v is None or v not in self._alive or v in (known or ()) or v not in self._named:
                    continue
                line = Equation(self._named[v], _shape(v), self._apply(node, k), v.name)
                if isinstance(line.term, Tensor) and line.term.mark:
                    others.setdefault(line.term, []).append(line)
                else:
                    lines.append(line)
        return _beside(lines, others)

    def term(self, value: Value) -> Term:
        """A value where it is used."""
        if value in self._named:
            self.used.add(self._named[value])
            return self._named[value]
        array = self.graph.constants.get(value)
        if array is None:
            node = self._makers[value]
            return self._apply(node, node.outputs.index(value))
        if _is_short(array):
            return Literal(_written(array))
        self._named[value] = self.made_up[value] = Tensor(self._names.count("c"))
        return self.term(value)

    def _apply(self, node: Node, output: int) -> Term:
        operands = tuple(None if v is None else self.term(v) for v in node.inputs)
        if node.op == "Identity" and operands[0] is not None:
            return operands[0]
        return Apply(node, operands, output)


def _beside(
    lines: Sequence[Equation], others: Mapping[Tensor, Sequence[Equation]]
) -> list[Equation]:
    """Equations with those of other names for the same tensor after it; none of it with itself."""
    ends = {line.target for line in lines}
    heads = [line for of, more in others.items() if of not in ends for line in more]
    ordered = [line for one in lines for line in (one, *others.get(one.target, ()))]
    return [line for line in (*heads, *ordered) if line.term != line.target]


_ENDS = {2**63 - 1: "end", -(2**63 - 1): "start", -(2**63): "start"}
"""How far a slice goes that goes as far as there is anything."""


def _written(array: np.ndarray) -> str:
    """Numbers in the fewest digits that give them back."""
    if array.dtype.kind == "f":
        number = array.reshape(()).item() if array.dtype == np.float64 else array.reshape(-1)[0]
        return repr(float(str(number)))
    flat = [_ENDS.get(x, str(x)) for x in array.reshape(-1).tolist()]
    return flat[0] if array.size == 1 and array.ndim == 0 else f"[{','.join(flat)}]"


# ---- a chain -------------------------------------------------------------------------------------


def _chain(derivative: Derivative, problem: Problem, writer: _Writer) -> tuple[Factor, ...]:
    """The Jacobian of a network of layers as a product, from the output back to the input."""
    if len(problem.wrt) != 1 or len(derivative.results) == 0 or len(problem.of) != 1:
        return ()
    graph = derivative.graph
    start = graph.value(derivative.directions[problem.wrt[0]])
    end = graph.value(derivative.results.get(problem.of[0], ""))
    if start is None or end is None:
        return ()
    moves = {start}
    for node in graph.nodes:
        if any(v in moves for v in node.reads()):
            moves.update(node.makes())
    makers, factors, at = graph.producers(), [], end
    while at is not start:
        node = makers[at]
        along = [k for k, v in enumerate(node.inputs) if v in moves]
        step = _factor(node, along, writer) if len(along) == 1 else None
        if step is None:
            return ()
        factors += step
        following = node.inputs[along[0]]
        assert following is not None
        at = following
    return tuple(factors)


def _factor(node: Node, along: Sequence[int], writer: _Writer) -> list[Factor] | None:
    """What one operator that is linear in one operand does to a row of tangents."""
    (k,) = along
    y, x = node.outputs[0], node.inputs[k]
    assert y is not None
    assert x is not None
    if node.op == "Identity":
        return []
    # A row each: of several points the Jacobian has a block for each.
    if y.shape is None or x.shape is None or any(d != 1 for d in y.shape[:-1]):
        return None
    if node.op == "Mul" and x.shape == y.shape:
        other = node.inputs[1 - k]
        assert other is not None
        return [Factor(writer.term(other), "diag")] if other.shape == y.shape else None
    if node.op == "Where" and k == 1 and x.shape == y.shape:
        mask, zero = node.inputs[0], node.inputs[2]
        assert mask is not None
        assert zero is not None
        dropped = writer.term(zero)
        drops = isinstance(dropped, Literal) and float(dropped.text.strip("[]")) == 0.0
        return [Factor(writer.term(mask), "diag")] if drops and mask.shape == y.shape else None
    if node.op == "Neg":
        return [Factor(Literal("-1"), "matrix")]
    plain = node.op == "MatMul" or (
        node.op == "Gemm"
        and len(node.inputs) == 2
        and (node.attrs["alpha"], node.attrs["transA"]) == (1.0, 0)
    )
    weight = node.inputs[1] if plain and k == 0 else None
    if weight is None or weight.shape is None or len(weight.shape) != 2:
        return None
    across = node.op == "Gemm" and node.attrs["transB"]
    return [Factor(writer.term(weight), "matrix" if across else "transposed")]
