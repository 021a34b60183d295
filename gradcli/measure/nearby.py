"""The primal at other points, where a fault that the point itself hides is seen."""

from __future__ import annotations

import numpy as np

from gradcli import runtime
from gradcli.engines.base import Nearby
from gradcli.errors import GradcliError
from gradcli.interpret import Evaluator
from gradcli.measure.certify import size_of
from gradcli.measure.clock import Clock
from gradcli.measure.primal import SHAKES, rounding
from gradcli.problem import Problem

POINTS = 2
"""How many there are; of a function with steps twice as many."""

SHARE = 0.02
"""The part of the budget that they may take."""

MANY = 1_000_000
"""Elements of inner values that are looked at, at most."""


def nearby(problem: Problem, f: Evaluator, clock: Clock) -> tuple[Nearby, ...]:
    """The primal, inner values and all, at points drawn by the seed around this one.

    What a wrong operator adds may vanish at the point itself, as 0 times 1.01 does, or further on,
    where the network is flat and its derivative is small.

    Args:
        problem: The question.
        f: Its exact primal, in float64.
        clock: The budget: what costs more than a small part of it is left out.
    """
    model = problem.model
    price = POINTS * (clock.forward + (1 + SHAKES) * clock.primal)
    if model is None or price > SHARE * clock.left():
        return ()
    fed = {v.name for v in model.graph.inputs if v.dtype.is_float} & problem.point.keys()
    if not fed or not problem.point.keys() <= problem.feeds.keys():
        return ()  # a point inside the network does not move along with its inputs
    rng = np.random.default_rng(problem.seed)
    asked = {e.tensor for e in problem.elements}
    steps = any(problem.table[node.key].steps for node in problem.exact.nodes)
    inner = set() if steps else _inner(problem)
    found = []
    try:
        session = runtime.prepare(
            model,
            threads=problem.threads,
            provider=problem.provider,
            extra_outputs=sorted((inner | asked) - {v.name for v in model.graph.outputs}),
            optimisation="off" if _quantised(problem) else None,
        )
        for _ in range(2 * POINTS if steps else POINTS):
            moved = {name: _moved(problem.feeds[name], rng) for name in fed}
            point = {name: moved.get(name, x) for name, x in problem.point.items()}
            if problem.same_branches({**problem.feeds, **moved}):
                out = session.run({**problem.feeds, **moved})
                theirs = {e.name: np.asarray(out[e.tensor])[e.index] for e in problem.elements}
                theirs |= {name: np.asarray(out[name]) for name in inner}
                ours = f.run(point, keep=tuple(inner))
                found.append(Nearby(theirs, ours, rounding(problem, ours, point), steps))
    except GradcliError:
        return ()  # nothing is said of where it cannot be evaluated
    return tuple(found)


def _inner(problem: Problem) -> set[str]:
    """Float tensors that the file and the exact graph both make: a value of the same name."""
    assert problem.model is not None
    theirs = {v.name for node in problem.model.graph.nodes for v in node.makes()}
    ours = [v for node in problem.exact.nodes for v in node.makes()]
    shared = {v.name: v for v in ours if v.dtype.is_float and v.name in theirs}
    return set(shared) if sum(map(size_of, shared.values())) <= MANY else set()


def _quantised(problem: Problem) -> bool:
    assert problem.model is not None
    return any(node.op == "DequantizeLinear" for node in problem.model.graph.nodes)


def _moved(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each element moved by up to its size, or by up to 1 where that is more."""
    wide = x.astype(np.float64)
    away = np.maximum(1.0, np.abs(wide)) * rng.uniform(-1.0, 1.0, x.shape)
    with np.errstate(over="ignore"):
        return np.asarray((wide + away).astype(x.dtype))
