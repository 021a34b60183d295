"""Node by node: what each one's own arithmetic and own rules are worth, and what comes of them.

Every node is looked at on the operands that it really has at the point. Its result and its local
derivative are held against those of the same operands in exact arithmetic, so that nothing that
went wrong before it counts. What it adds to the error of the answer is its own error, times how
much the answer hangs on it: one pass back through the tangent's graph says that of all nodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gradcli.engines.base.alone import MISFIT, LocalError
from gradcli.engines.base.nodeat import Focus, NodeAt
from gradcli.engines.base.part import Part
from gradcli.engines.base.program import Engine
from gradcli.engines.base.walker import Walker
from gradcli.errors import GradcliError, OutOfTimeError
from gradcli.graph import Node, is_static, size
from gradcli.problem import Problem

LARGE = 0.02
"""The part of what all nodes add from which on a node is looked at before cheaper ones."""


@dataclass(frozen=True)
class Walk:
    """What a walk over the nodes found.

    Attributes:
        focus: What was followed.
        nodes: The user's nodes, in the order of the file.
        looked: How many of the graph's nodes were looked at whole: what they are written out in.
        left: How many there was no time for.
        enclosed: Whether there are balls to hold things against.
        reason: Why it ended early, other than for want of time.
    """

    focus: Focus
    nodes: tuple[NodeAt, ...]
    looked: int = 0
    left: int = 0
    enclosed: bool = True
    reason: str = ""


def walk(
    problem: Problem,
    focus: Focus,
    methods: Sequence[Engine],
    worth: Callable[[Node], bool],
    tell: Callable[[str], None] = lambda _: None,
) -> Walk:
    """Look at every node by itself.

    Args:
        problem: The question.
        focus: The number whose error is followed.
        methods: Those that have a derivative of their own of every node.
        worth: Which nodes to hold against balls, where there are balls: they take their time.
        tell: Called with a few words before each step.
    """
    walker = Walker(problem, focus, methods, worth)
    nodes = walker.graph.nodes
    found: list[NodeAt] = []
    more: list[NodeAt] = []
    kernels: dict[str, dict[str, float]] = {}
    looked, reason = 0, ""
    try:
        tell("explaining: what the answer hangs on")
        walker.prepare()
        for k, node in enumerate(nodes):
            tell(Part("explaining: results of nodes", k + 1, len(nodes)))
            found.append(walker.result_of(node))
        tell("explaining: results in the file")
        more += walker.in_file()
        for looked, k in enumerate(_order(nodes, found)):
            tell(Part("explaining: derivatives of nodes", looked + 1, len(nodes)))
            found[k] = walker.derivative_of(nodes[k], found[k])
        looked = len(nodes)
        for node in walker.wholes:
            name = node.origin or node.name
            more.append(walker.whole_of(node, [part for part in found if part.node == name]))
        for engine in methods:
            tell(f"explaining: the operators that {engine.name} runs")
            for name, misfit in walker.kernels_of(engine):
                kernels.setdefault(name, {})[engine.name] = misfit
    except OutOfTimeError:
        pass
    except (GradcliError, MemoryError) as error:
        reason = str(error)
    whole = (replace(n, kernels=kernels.get(n.node, {})) for n in _joined(problem, [*found, *more]))
    left = len(nodes) - looked
    return Walk(focus, tuple(whole), looked, left, walker.enclosed, reason)


def wrong_kernel(problem: Problem, method: Engine) -> str | None:
    """The user's node whose kernel, or whose derivative's, is off by no rounding, most of all.

    Args:
        problem: The question.
        method: Whose operators to look at.
    """
    found = dict(Walker(problem, Focus("", {}, {}), (), lambda _: False).kernels_of(method))
    worst = max(found, key=lambda name: found[name], default="")
    return worst if found and found[worst] > MISFIT else None


def _order(nodes: Sequence[Node], found: Sequence[NodeAt]) -> list[int]:
    """First those whose results add most to the error, then the cheap ones."""
    shares = [abs(n.primal_share or 0.0) for n in found]
    sizable = LARGE * sum(share for share in shares if math.isfinite(share))

    def rank(k: int) -> tuple[float, int]:
        return (-shares[k] if shares[k] > sizable else 0.0), _weight(nodes[k])

    return sorted(range(len(nodes)), key=rank)


def _weight(node: Node) -> int:
    """Roughly what a node costs."""
    shapes = (v.shape for v in (*node.reads(), *node.makes()))
    sizes = [size(shape) for shape in shapes if shape is not None and is_static(shape)]
    return sum(sizes) * (max(sizes, default=0) if len(node.inputs) > 1 else 1)


def _joined(problem: Problem, parts: Sequence[NodeAt]) -> Iterator[NodeAt]:
    """The user's nodes, each of all the parts that it was written out in."""
    ops = {node.name: node.key for node in problem.graph.nodes}
    groups: dict[str, list[NodeAt]] = {}
    for part in parts:
        groups.setdefault(part.node, []).append(part)
    for name, group in groups.items():
        worst = max(group, key=_gravity)
        op = ops.get(name, worst.op)
        yield NodeAt(
            name,
            op,
            worst.op if worst.op != op else "",
            max(part.ulps for part in group),
            max(part.misfit for part in group),
            max(part.condition for part in group),
            {
                m: _worst([p.derivatives[m] for p in group if m in p.derivatives])
                for m in _all(group)
            },
            {},
            _sum(part.primal_share for part in group),
            _sum(part.output_share for part in group),
            any(part.tie for part in group),
            next((part.edge for part in group if part.edge), ""),
            any(part.steps for part in group),
            all(part.balls for part in group),
        )


def _all(group: Sequence[NodeAt]) -> dict[str, None]:
    return {m: None for part in group for m in part.derivatives}


def _gravity(part: NodeAt) -> tuple[float, float]:
    wrong = max((d.exact or 0.0 for d in part.derivatives.values()), default=0.0)
    return wrong, part.misfit


def _worst(errors: Sequence[LocalError]) -> LocalError:
    worst = max(errors, key=lambda e: (e.exact or 0.0, e.error - e.noise))
    return replace(worst, share=_sum(e.share for e in errors))


def _sum(terms: Iterable[float | None]) -> float | None:
    known = [term for term in terms if term is not None]
    return sum(known) if known else None
