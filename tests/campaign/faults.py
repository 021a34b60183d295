"""Known faults: what may be wrong with a rule or an operator, planted into a table or a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcli.engines.symbolic.tangents import Tangents
from gradcli.graph import Graph, Node, Value, Var
from gradcli.numbers import Symbol, complex_
from gradcli.onnxfile import read, write
from gradcli.ops import OPS, Card, Site, Table
from gradcli.problem import Problem
from gradcli.transform import expand
from gradcli.transform.rewrite import Rewriter, identity

Vars = Sequence[Var | None]

GUILTY: Mapping[str, tuple[str, ...]] = {
    "forward": ("forward",),
    "reverse": ("reverse",),
    "shared": ("forward", "reverse"),
    "symbolic": ("symbolic",),
    "witness": ("complex-step",),
    "runtime": (),
}
"""Where a fault is planted, and the methods that stand on it."""

IN_RULES = ("forward", "reverse", "shared")
"""Those of them that are a card's rules, which see a graph expanded."""

FACTORS = {"x 1.01": 1.01, "x 1.001": 1.001, "sign": -1.0}

SITES = ("transposed", "swapped", "stale")
"""Faults that look at the wrong operands."""

KINDS = (*FACTORS, "missing", "branch", "window", "broadcast", *SITES)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        stage: Where it is; one of GUILTY.
        kind: What it is.
        op: In which operator.
        operand: Of which operand's derivative.
    """

    stage: str
    kind: str
    op: str
    operand: int

    def __str__(self) -> str:
        return f"{self.kind} in operand {self.operand} of {self.op}, {self.stage}"

    def planted(self, problem: Problem) -> Problem:
        """The problem with this fault."""
        if self.stage == "runtime":
            assert problem.model is not None
            return replace(problem, model=read(write(_misread(problem.model.graph, self)), OPS))
        return replace(problem, table=self.table())

    def table(self) -> Table:
        """A table with this fault."""
        card = OPS[self.op]
        if self.stage == "symbolic":
            return OPS.replace(replace(card, impl=_wrong_impl(card, self, (Symbol, Tangents))))
        if self.stage == "witness":
            return OPS.replace(replace(card, impl=_wrong_impl(card, self, (type(complex_),))))
        rules: dict[str, Any] = {}
        if self.stage in ("forward", "shared"):
            rules["jvp"] = _wrong_jvp(card, self)
        if self.stage in ("reverse", "shared"):
            rules["vjp"] = _wrong_vjp(card, self)
        return OPS.replace(replace(card, **rules))


def chosen(
    rng: np.random.Generator, problem: Problem, stages: Sequence[str], kinds: Sequence[str] = KINDS
) -> Fault | None:
    """A fault that this network may show, of these kinds; None where there is no place for one."""
    stage = str(rng.choice(stages))
    graph = problem.exact
    if stage in IN_RULES:
        graph = expand(graph)
    places = [
        (kind, node, k)
        for node in graph.nodes
        for k, x in enumerate(node.inputs)
        if x is not None and x.dtype.is_float and _fits(OPS.get(node.key), stage)
        for kind in kinds
        if _possible(kind, stage, node, k)
    ]
    if not places:
        return None
    # A kind first, or factors would be nearly all there is.
    kind = str(rng.choice(sorted({kind for kind, _, _ in places})))
    fitting = [(node, k) for other, node, k in places if other == kind]
    node, operand = fitting[int(rng.integers(len(fitting)))]
    return Fault(stage, kind, node.key, operand)


def wanted(rng: np.random.Generator, stages: Sequence[str]) -> tuple[str, str]:
    """A stage and a kind that makes sense there. The kind first, so that each has its share."""
    kinds = {kind for stage in stages for kind in kinds_at(stage)}
    kind = str(rng.choice(sorted(kinds)))
    return str(rng.choice([stage for stage in stages if kind in kinds_at(stage)])), kind


def kinds_at(stage: str) -> tuple[str, ...]:
    """What may be wrong there. Sums and masks are a matter of rules, sums of reverse ones."""
    if stage == "reverse":
        return KINDS
    if stage in IN_RULES:
        return tuple(kind for kind in KINDS if kind != "broadcast")
    return tuple(kind for kind in KINDS if kind not in ("missing", "broadcast", "stale"))


def _fits(card: Card | None, stage: str) -> bool:
    if card is None or card.is_flat:
        return False
    if stage in ("symbolic", "witness", "runtime"):
        return card.impl is not None
    return card.jvp is not None and card.vjp is not None


def _possible(kind: str, stage: str, node: Node, k: int) -> bool:
    x, y = node.inputs[k], node.outputs[0]
    if x is None or y is None or not y.dtype.is_float:
        return False
    first, second = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    wide = bool(x.shape) and int(x.shape[-1]) > 1  # type: ignore[index] # at a point
    if kind not in kinds_at(stage):
        return False
    match kind:
        case "window":
            pools = ("MaxPool", "AveragePool", "Conv", "Gather", "Slice", "Pad", "CumSum")
            return k == 0 and wide and node.op in (*pools, "ReduceMax", "Softmax", "MatMul")
        case "broadcast":
            return OPS[node.key].kind == "elementwise" and x.shape != y.shape
        case "transposed":
            square = second is not None and second.shape is not None and len(second.shape) == 2
            square = square and second.shape[0] == second.shape[1]  # type: ignore[union-attr,index] # a matrix
            return k == 0 and square and node.op in ("MatMul", "Gemm")
        case "swapped":
            # Where results are the same either way, only a rule may take one for the other.
            either = ("Mul", "Max", "Min") if stage in IN_RULES else ()
            two = (*either, "Sub", "Div", "Pow", "MatMul", "Where")
            return (
                k == 0
                and node.op in two
                and second is not None
                and first is not None
                and first is not second
                and (first.shape == second.shape and first.dtype is second.dtype)
            )
        case "stale":
            return k == 0 and wide and OPS[node.key].kinks is not None
    return True


# ---- in a rule -----------------------------------------------------------------------------------


def _rolled(x: Var, back: bool = False) -> Var:
    """x by one further along its last axis, and what falls out put in again."""
    b, cut = x.b, (1 if not back else int(x.shape[-1]) - 1)  # type: ignore[index] # not a scalar
    last, end = b.ints([-1]), b.ints([2**31])
    tail = b.op("Slice", x, b.ints([cut]), end, last)
    return b.op("Concat", tail, b.op("Slice", x, b.ints([0]), b.ints([cut]), last), axis=-1)


def _distorted(fault: Fault, s: Site, t: Var, *, back: bool) -> Var | None:
    """A tangent or a cotangent of the operand, with the fault: linear in it."""
    if fault.kind in FACTORS:
        return t * FACTORS[fault.kind]
    if fault.kind == "missing":
        return None
    if fault.kind == "window":
        return _rolled(t, back)
    assert fault.kind == "branch"
    return s.b.where(s.input(fault.operand) > 0.0, t * 1.01, t)


def _elsewhere(fault: Fault, s: Site) -> Site:
    """The same site with the wrong operands."""
    inputs = list(s.inputs)
    if fault.kind == "transposed":
        inputs[1] = s.b.transpose(s.x1, [1, 0])
    elif fault.kind == "swapped":
        inputs[:2] = inputs[1::-1]
    elif s.x.rank:
        inputs[0] = _rolled(s.x)
    made = s.b.ops(s.key, *inputs, outputs=len(s.outputs), **s.attrs)
    outputs = [None if old is None else y for y, old in zip(made, s.outputs, strict=True)]
    return Site(s.b, s.key, inputs, s.attrs, outputs, s.wanted, s.dropped)


def _applies(fault: Fault, s: Site) -> bool:
    """Whether the fault shows at this site, which may be another one of the same operator."""
    if not s.has(fault.operand) or not s.input(fault.operand).dtype.is_float:
        return False
    x = s.input(fault.operand)
    if fault.kind in ("window", "stale"):
        return bool(x.shape) and isinstance(x.shape[-1], int) and x.shape[-1] > 1  # type: ignore[index] # it has axes
    if fault.kind == "swapped":
        return s.x.shape == s.x1.shape
    if fault.kind == "transposed":
        w = s.x1.shape
        return w is not None and len(w) == 2 and w[0] == w[1]
    if fault.kind == "broadcast":
        return x.shape != s.y.shape
    return True


def _wrong_jvp(card: Card, fault: Fault) -> Callable[[Site, Vars], Vars]:
    def jvp(s: Site, dots: Vars) -> Vars:
        assert card.jvp is not None
        if not _applies(fault, s):
            return card.jvp(s, dots)
        if fault.kind in SITES:
            return card.jvp(_elsewhere(fault, s), dots)
        k, given = fault.operand, list(dots)
        if k < len(given) and (dot := given[k]) is not None:
            given[k] = _distorted(fault, s, dot, back=False)
        if all(dot is None for dot in given):
            return [None] * len(s.outputs)
        return card.jvp(s, given)

    return jvp


def _wrong_vjp(card: Card, fault: Fault) -> Callable[[Site, Vars], Vars]:
    def vjp(s: Site, bars: Vars) -> Vars:
        assert card.vjp is not None
        right = list(card.vjp(s, bars))
        k = fault.operand
        if not _applies(fault, s) or k >= len(right) or (x_bar := right[k]) is None:
            return right
        if fault.kind in SITES:
            right[k] = card.vjp(_elsewhere(fault, s), bars)[k]
        elif fault.kind == "broadcast":
            right[k] = card.vjp(s, [None if t is None else _only_first(s, t) for t in bars])[k]
        else:
            right[k] = _distorted(fault, s, x_bar, back=True)
        return right

    return vjp


def _only_first(s: Site, y_bar: Var) -> Var:
    """The cotangent, 0 but for the first place along every axis that was broadcast: no sum."""
    x = s.input(0)
    for x in (x for x in s.inputs if x is not None):
        if x.shape != s.y.shape:
            break
    shape = [int(d) for d in s.y.shape or ()]
    own = [1] * (len(shape) - x.rank) + [int(d) for d in x.shape or ()]
    mask = np.ones(shape)
    for axis, (mine, all_) in enumerate(zip(own, shape, strict=True)):
        if mine != all_:
            mask[(slice(None),) * axis + (slice(1, None),)] = 0.0
    return y_bar * s.b.like(mask, y_bar)


# ---- in an operator ------------------------------------------------------------------------------


def _wrong_impl(card: Card, fault: Fault, where: tuple[type, ...]) -> Callable[..., Any]:
    """The operator, wrong only where it is evaluated in these number systems."""

    def impl(n: Any, *operands: Any, **attrs: Any) -> Any:
        assert card.impl is not None
        if not issubclass(type(n), where):
            return card.impl(n, *operands, **attrs)
        given = list(operands)
        if fault.kind == "swapped" and np.shape(given[0]) == np.shape(given[1]):
            given[:2] = given[1::-1]
        elif fault.kind == "transposed" and given[1].ndim == 2:
            given[1] = n.transpose(given[1], (1, 0))
        elif fault.kind == "window" and given[0].ndim and given[0].shape[-1] > 1:
            x, axis = n.number(given[0]) if hasattr(n, "number") else given[0], given[0].ndim - 1
            given[0] = n.take(x, np.roll(np.arange(x.shape[-1]), -1), axis)
        made = card.impl(n, *given, **attrs)
        whole = isinstance(made, tuple)
        first = made[0] if whole else made
        if fault.kind in FACTORS:
            first = first * FACTORS[fault.kind]
        elif fault.kind == "branch":
            first = n.where(n.less(n.zero_of(first), first), first * 1.01, first)
        return (first, *made[1:]) if whole else first

    return impl


# ---- in the file ---------------------------------------------------------------------------------


def _misread(graph: Graph, fault: Fault) -> Graph:
    """The graph that a faulty runtime would run."""
    r = Rewriter(graph)
    r.adopt_inputs()
    for node in graph.nodes:
        given = r.operands(node)
        if node.key != fault.op or not _possible(fault.kind, "runtime", node, fault.operand):
            r.copy(node)
            continue
        if fault.kind == "swapped":
            given[:2] = given[1::-1]
        elif fault.kind == "transposed":
            assert given[1] is not None
            given[1] = r.b.transpose(given[1], [1, 0])
        elif fault.kind == "window":
            assert given[0] is not None
            given[0] = _rolled(given[0])
        made = list(r.b.ops(node.key, *given, outputs=len(node.outputs), **node.attrs))
        y = made[0]
        if fault.kind in FACTORS:
            made[0] = y * FACTORS[fault.kind]
        elif fault.kind == "branch":
            made[0] = r.b.where(y > 0.0, y * 1.01, y)
        # A wrong kernel makes tensors of the same names.
        r.become(node, [_as(r, v, y) for v, y in zip(node.outputs, made, strict=True)])
    return r.finish()


def _as(r: Rewriter, value: Value | None, y: Var | None) -> Var | None:
    """A result under the name that the file has for it."""
    return None if value is None or y is None else r.b.copy(identity(value), [y])[0]
