"""Whether --explain names the node that a fault was planted in."""

from __future__ import annotations

from collections.abc import Sequence

from gradcli.comparison import Comparison, What, explained, focus_of, rules_of
from gradcli.engines.base import Evidence
from gradcli.graph import Node
from gradcli.measure import explain
from gradcli.problem import Problem
from gradcli.transform import expand
from tests.campaign.faults import IN_RULES, Fault

SECONDS = 60.0
"""For a walk: enough for any network here."""

RIGHT = "the node"
"""What is said of a walk that names it."""


def named(fault: Fault, evidence: Evidence, found: Comparison, methods: Sequence[str]) -> str:
    """What --explain puts first: `RIGHT`, or what it says instead.

    Args:
        fault: Planted into what was measured.
        evidence: What was measured.
        found: As judged.
        methods: Those that were asked for.
    """
    problem = evidence.problem
    rules = rules_of(evidence, found, methods)
    walk = explain(problem, focus_of(evidence, found), rules, SECONDS)
    told = explained(evidence, found, walk).explanation
    if told is None or not told.nodes:
        return f"nothing: {walk.reason or 'no nodes'}"
    first = told.nodes[0]
    what = What.KERNEL if fault.stage == "runtime" else What.RULE
    if first.what is what and first.node in guilty(fault, problem):
        return RIGHT
    early = f"; {walk.reason or f'{walk.left} left'}" if walk.reason or walk.left else ""
    return f"{first.node} ({first.op} {first.inner}) {first.what}, of {told.method}{early}"


def guilty(fault: Fault, problem: Problem) -> set[str]:
    """The user's nodes that stand on the operator."""
    if fault.stage == "runtime":
        return _misread(fault, problem)
    graph = expand(problem.exact) if fault.stage in IN_RULES else problem.exact
    return {_user(node) for node in graph.nodes if node.key == fault.op}


def _misread(fault: Fault, problem: Problem) -> set[str]:
    """The nodes that a faulty runtime takes for others, or those that they are fused to."""
    assert problem.model is not None
    kept = {_user(node) for node in problem.exact.nodes}
    found: set[str] = set()
    fused: set[str] = set()
    for node in problem.model.graph.nodes:
        if node.key != fault.op and not any(v.name in fused for v in node.reads()):
            continue
        if _user(node) in kept:
            found.add(_user(node))
        else:
            fused |= {v.name for v in node.makes()}
    return found


def _user(node: Node) -> str:
    return node.origin or node.name
