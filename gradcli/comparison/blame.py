"""Which node it is, what it is, and what to do about it, from a walk over the nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from gradcli.comparison.facts import Blame, Comparison, Explanation, Judgement, Verdict, What
from gradcli.comparison.field import Field, field_of, place_of
from gradcli.comparison.truth import truth_of
from gradcli.engines.base import MISFIT, Evidence, Focus, NodeAt, Walk
from gradcli.graph import DType
from gradcli.problem import Problem

OUTPUTS = "outputs"
"""What is explained where the primal does not match: no method's error, but theirs."""

RULES = ("forward", "reverse")
"""Methods that compute in the model's width, by rules of operators."""

CANCELS = 100.0
"""The condition from which on terms cancel."""

SUSPECT = 8.0
"""Above so many times what rounding makes, a node is at fault if something is."""

MATTERS = 0.05
"""The share of an error from which on a node is to be blamed for it."""


# ---- what to explain -----------------------------------------------------------------------------


def focus_of(evidence: Evidence, comparison: Comparison) -> Focus:
    """The element where things are worst: of an output that does not match, else of the answer."""
    problem = evidence.problem
    if not comparison.primal.matches and evidence.file_primal:
        return _output(evidence, comparison.primal.output)
    judged = [m for m in comparison.methods if m.worst is not None]
    for m in sorted(judged, key=_badness, reverse=True):
        place = _place_of(evidence, m)
        if place is not None:
            assert m.worst is not None
            return _element(evidence, m.method, m.worst.name, m.worst.index, place)
    if (unjudged := _unjudged(evidence)) is not None:
        return unjudged
    rng = np.random.default_rng(problem.seed)
    dots = {k: rng.standard_normal(problem.shape(k)) for k in problem.wrt}
    bars = {k: rng.standard_normal(problem.shape(k)) for k in problem.of}
    return Focus("a random direction", dots, dict(problem.cotangents) or bars)


def rules_of(evidence: Evidence, comparison: Comparison, methods: Sequence[str]) -> list[str]:
    """The methods whose derivatives of nodes to look at.

    Args:
        evidence: What was measured.
        comparison: As judged.
        methods: Those that were asked for; the reference's own joins them where it was withdrawn.
    """
    withdrawn = comparison.reference.kind == comparison.reference.witness
    graph = evidence.reference if withdrawn else None
    own = [graph.method] if graph is not None and graph.estimate is not None else []
    return list(dict.fromkeys([*methods, *own]))


def _badness(m: Judgement) -> tuple[bool, bool, float]:
    """Methods that disagree first, of them those that have rules, then by their error."""
    assert m.worst is not None
    gap = abs(m.worst.value - m.worst.reference)
    size = max(abs(m.worst.value), abs(m.worst.reference))
    relative = gap / size if np.isfinite(gap) and size > 0 else float(gap != 0)
    local = m.method in RULES or m.method.startswith("symbolic")
    return local, m.verdict is Verdict.DISAGREE, relative


def _place_of(evidence: Evidence, m: Judgement) -> int | None:
    """The flat index of a method's worst element."""
    assert m.worst is not None
    problem, start = evidence.problem, 0
    for key in problem.keys:
        shape = problem.block_shape(key)
        named = "/".join(part for part in key if part)
        if named == m.worst.name and len(m.worst.index) == len(shape):
            flat = np.ravel_multi_index(m.worst.index, shape) if shape else 0
            return start + int(flat)
        start += int(np.prod(shape))
    words = m.worst.name.split()
    if words[:2] == ["random", "direction"] and evidence.probes is not None:
        return start + int(words[2])
    return None


def _unconfirmed(evidence: Evidence) -> Field | None:
    """The float64 graph, where nobody has confirmed it: what rounding does can be told from it."""
    estimate = evidence.reference.estimate
    return None if estimate is None else field_of(evidence, estimate)


def _unjudged(evidence: Evidence) -> Focus | None:
    """Where a method by rules lies farthest from the float64 graph, which nobody has confirmed."""
    wide = _unconfirmed(evidence)
    if wide is None:
        return None
    for outcome in sorted(evidence.outcomes, key=lambda o: o.sampled):
        if outcome.method not in RULES or outcome.estimate is None:
            continue
        own = field_of(evidence, outcome.estimate)
        both = own.known & wide.known
        # Of elements and sums of all of them, an element says more.
        elements = sum(int(np.prod(evidence.problem.block_shape(k))) for k in evidence.problem.keys)
        if np.any(both[:elements]):
            both[elements:] = False
        gap = np.where(both, np.abs(own.value - wide.value), -1.0)
        if not np.any(both):
            continue
        place = int(np.nanargmax(gap))
        name, index = place_of(evidence.problem, place)
        return _element(evidence, outcome.method, name, index, place)
    return None


def _element(
    evidence: Evidence, method: str, name: str, places: Sequence[int], place: int
) -> Focus:
    problem, rest = evidence.problem, place
    index = ", ".join(map(str, places))
    label = f"{name}[{index}]" if places else name
    dots = dict(problem.tangents) or {k: np.zeros(problem.shape(k)) for k in problem.wrt}
    bars = dict(problem.cotangents) or {k: np.zeros(problem.shape(k)) for k in problem.of}
    for of, wrt in problem.keys:
        size = int(np.prod(problem.block_shape((of, wrt))))
        if rest >= size:
            rest -= size
            continue
        row, column = divmod(rest, int(np.prod(problem.shape(wrt)))) if wrt else (rest, 0)
        if of:
            bars[of] = _unit(problem.shape(of), row)
        if wrt:
            dots[wrt] = _unit(problem.shape(wrt), column)
        return Focus(label, dots, bars, place, method)
    assert evidence.probes is not None
    along = {k: v[rest] for k, v in evidence.probes.along.items()}
    return Focus(label, along, bars, place, method)


def _unit(shape: tuple[int, ...], place: int) -> np.ndarray:
    made = np.zeros(shape)
    made.reshape(-1)[place] = 1.0
    return made


def _output(evidence: Evidence, name: str) -> Focus:
    problem = evidence.problem
    rng = np.random.default_rng(problem.seed)
    dots = {k: rng.standard_normal(problem.shape(k)) for k in problem.wrt}
    bars = {k: np.zeros(problem.shape(k)) for k in problem.of}
    gap = _output_gap(evidence, name)
    if gap is None:
        ones = {k: np.ones(x.shape) for k, x in bars.items()}
        return Focus("the outputs", dots, ones, method=OUTPUTS, primal=True)
    place = int(np.argmax(np.nan_to_num(np.abs(gap), nan=np.inf)))
    bars[name] = _unit(gap.shape, place)
    at = ", ".join(map(str, np.unravel_index(place, gap.shape)))
    return Focus(f"{name}[{at}]", dots, bars, method=OUTPUTS, primal=True)


def _output_gap(evidence: Evidence, name: str) -> np.ndarray | None:
    file, exact = evidence.file_primal.get(name), evidence.exact_primal.get(name)
    if file is None or exact is None or np.shape(file) != np.shape(exact):
        return None
    gap: np.ndarray = np.asarray(file, np.float64) - np.asarray(exact)
    return gap


# ---- what came of it -----------------------------------------------------------------------------


@np.errstate(all="ignore")
def explained(evidence: Evidence, comparison: Comparison, walk: Walk) -> Comparison:
    """The comparison with what a walk over the nodes explains, worst nodes named.

    Args:
        evidence: What was measured.
        comparison: As judged.
        walk: Over the nodes, with the focus that `focus_of` gave.
    """
    active = [k.node for k in comparison.kinks if k.active]
    bad = [m.method for m in comparison.methods if m.verdict is Verdict.DISAGREE]
    found = explanation_of(evidence.problem, walk, _errors(evidence, walk.focus), active, bad)
    named = {m: node for m in bad if m in found.errors and (node := culprit(found.nodes, m))}
    methods = tuple(
        replace(m, worst=replace(m.worst, node=named[m.method]))
        if m.worst is not None and m.method in named
        else m
        for m in comparison.methods
    )
    return replace(comparison, methods=methods, explanation=found)


def explanation_of(
    problem: Problem,
    walk: Walk,
    errors: Mapping[str, float | None],
    active: Collection[str] = (),
    bad: Collection[str] = (),
) -> Explanation:
    """The nodes of a walk, the worst first.

    Args:
        problem: The question.
        walk: Over the nodes.
        errors: By method: how far off it is at the focus; None where not known.
        active: Nodes on a kink that makes two slopes of the answer.
        bad: The methods whose errors matter most.
    """
    method = walk.focus.method or next(iter(errors), "")
    matter = {*bad, method}
    parts = {m: [_part(node, m) for node in walk.nodes] for m in errors}
    whole = {m: _whole(errors[m], parts[m]) for m in errors}
    shares = {
        m: [None if x is None or not whole[m] else x / whole[m] for x in parts[m]] for m in errors
    }
    nodes = [
        _blame(problem, walk, node, {m: shares[m][k] for m in errors}, node.node in active, matter)
        for k, node in enumerate(walk.nodes)
    ]
    return Explanation(
        walk.focus.label,
        method,
        errors,
        {m: _total(shares[m]) if errors[m] else None for m in errors},
        tuple(sorted(nodes, key=lambda b: _rank(b, matter), reverse=True)),
        walk.left,
        tuple(_notes(walk)),
        walk.looked,
    )


def _errors(evidence: Evidence, focus: Focus) -> dict[str, float | None]:
    """How far off every method with a derivative of its own is at the focus."""
    if focus.method == OUTPUTS:
        name = next((k for k, w in focus.cotangents.items() if np.any(w)), "")
        gap = _output_gap(evidence, name)
        return {OUTPUTS: None if gap is None else float(np.sum(focus.cotangents[name] * gap))}
    truth = truth_of(evidence)[0] or _unconfirmed(evidence)
    found: dict[str, float | None] = {}
    for outcome in evidence.outcomes:
        local = outcome.method in RULES or outcome.method.startswith("symbolic")
        if not local:
            continue
        found[outcome.method] = None
        if outcome.estimate is None or focus.place < 0:
            continue
        own = field_of(evidence, outcome.estimate)
        known = truth is not None and own.known[focus.place] and truth.known[focus.place]
        off = own.value[focus.place] - truth.value[focus.place] if known and truth else np.nan
        found[outcome.method] = float(off) if np.isfinite(off) else None
    return found


def _part(node: NodeAt, method: str) -> float | None:
    """What a node adds to a method's error, in the unit of the answer."""
    if method == OUTPUTS:
        return node.output_share
    of = node.derivatives.get(method)
    terms = [of.share if of else None, node.primal_share if method in RULES else None]
    known = [x for x in terms if x is not None]
    return sum(known) if known else None


def _whole(error: float | None, parts: Sequence[float | None]) -> float:
    """What shares are of: the error, or where it is not known all that the nodes add."""
    sizes = sum(abs(x) for x in parts if x is not None)
    return error or sizes


def _total(shares: Sequence[float | None]) -> float | None:
    known = [x for x in shares if x is not None]
    return float(sum(known)) if known else None


def _blame(
    problem: Problem,
    walk: Walk,
    node: NodeAt,
    shares: Mapping[str, float | None],
    active: bool,  # of a private function
    bad: set[str],
) -> Blame:
    what, todo = _what(problem, walk, node, _largest(shares, bad), active, bad)
    return Blame(
        node.node,
        node.op,
        node.inner if what in (What.RULE, What.KERNEL) else "",
        what,
        todo,
        node.ulps,
        node.condition,
        {m: d.error for m, d in node.derivatives.items()},
        {m: d.exact for m, d in node.derivatives.items()},
        shares,
        "balls" if node.balls else "float64",
    )


def _what(
    problem: Problem, walk: Walk, node: NodeAt, share: float, active: bool, bad: set[str]
) -> tuple[What, str]:
    """What a node is, and what to do about it."""
    wrong = [m for m, d in node.derivatives.items() if d.exact]
    if wrong:
        return What.RULE, f"look at the rule of {' and '.join(wrong)} for {node.inner or node.op}"
    # Outputs that do not match are none of rounding, whoever it is.
    enough = SUSPECT if OUTPUTS in bad and share >= MATTERS else MISFIT
    if node.misfit > enough:
        return What.KERNEL, "onnxruntime and gradcli compute different results: check its kernel"
    off = {m: None for m, misfit in node.kernels.items() if misfit > MISFIT}
    if off := off | {m: None for m, d in node.derivatives.items() if d.misfits}:
        return What.KERNEL, f"check the kernels of its derivative ({' and '.join(off)})"
    if node.edge:
        return What.EDGE, f"keep away from it, by a small constant: {node.edge}"
    if node.tie and active:
        return What.KINK, "a convention decides: move the point, or take one side"
    if node.steps:
        return What.STAIRCASE, "no derivative passes: --straight-through takes it for the identity"
    if share == 0.0 and not node.ulps:
        return What.EXACT, ""
    wide = problem.dtype is DType.FLOAT64
    noise = max((d.noise for d in node.derivatives.values()), default=0.0)
    if max(node.condition, noise / problem.dtype.eps) > CANCELS:
        return What.CANCELLATION, "reformulate it" if wide else "--dtype float64, or reformulate it"
    if wide:
        return What.ROUNDING, ""
    if share < MATTERS:
        return What.ROUNDING, "--dtype float64 for more digits"
    after = _cancelling(problem, walk, node.node)
    if after is None:
        return What.ROUNDING, "what follows makes much of its rounding: --dtype float64"
    cancels = f"{after.node} ({after.op}) cancels what it rounds"
    return What.ROUNDING, f"{cancels}: --dtype float64, or reformulate that"


def _cancelling(problem: Problem, walk: Walk, node: str) -> NodeAt | None:
    """The node behind another one that cancels most, if one does."""
    reached: set[str] = set()
    behind: set[str] = set()
    for other in problem.exact.nodes:
        name = other.origin or other.name
        if name == node or any(v.name in reached for v in other.reads()):
            reached.update(v.name for v in other.makes())
            behind.add(name)
    found = [n for n in walk.nodes if n.node in behind - {node} and n.condition > CANCELS]
    return max(found, key=lambda n: n.condition, default=None)


def _largest(shares: Mapping[str, float | None], methods: set[str]) -> float:
    sizes = [abs(x) for m, x in shares.items() if x is not None and m in methods]
    return max((x for x in sizes if np.isfinite(x)), default=0.0)


GRAVE = (What.RULE, What.KERNEL)
ODD = (What.EDGE, What.KINK)


def _rank(b: Blame, bad: set[str]) -> tuple[int, float, float]:
    """Faults first, then what makes the answer a convention, then by the share of the error."""
    grave = 2 if b.what in GRAVE else 1 if b.what in ODD else 0
    return grave, _largest(b.shares, bad), b.ulps


def culprit(nodes: Sequence[Blame], method: str) -> str:
    """The node to look at first for a method's error; empty where none stands out."""
    for b in nodes:
        exact = b.exact.get(method)
        if b.what is What.RULE and not exact:
            continue
        share = b.shares.get(method)
        if b.what in GRAVE or (share is not None and abs(share) >= MATTERS):
            return b.node
    return ""


def _notes(walk: Walk) -> list[str]:
    notes = []
    if not walk.enclosed:
        notes.append("held against float64: python-flint would hold every node against enclosures")
    if walk.reason:
        notes.append(f"it ended early: {walk.reason}")
    elif walk.left:
        notes.append(f"there was no time for {walk.left} operators' rules: raise --budget")
    return notes
