"""Finite differences over many steps: how their error depends on the step, in either arithmetic."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradcli.deadline import check, until
from gradcli.engines.base import EPS, Arrays, Line, Point, Primal, Probes, Swept, compile_graph
from gradcli.engines.finite import slope_along
from gradcli.errors import GradcliError, OutOfTimeError
from gradcli.graph import DType
from gradcli.measure.clock import Clock
from gradcli.measure.primal import rounding
from gradcli.problem import Problem

SHARE = 0.3
"""The part of the budget that a sweep may take."""

COORDINATES = 16
"""Coordinates that are swept, at most, besides one random direction."""

LONGEST, SHORTEST = -1, -50
"""Exponents of 2, of the longest and the shortest step."""

TEXTBOOK = (float(np.sqrt(EPS)), float(np.cbrt(EPS)))
"""The steps that finite-forward and finite-central take."""

STEPS = np.array(sorted({2.0**k for k in range(SHORTEST, LONGEST + 1)} | {*TEXTBOOK}, reverse=True))
"""All steps, relative to max(1, |x|)."""

MOST = 4
"""One of so many steps is taken at least."""

COARSE = (TEXTBOOK[1], TEXTBOOK[0], 2.0**-9, 2.0**-34, 2.0**-4, 2.0**-42)
"""The steps that come first where there is time for few; then others between them."""

LEAST = 3
"""Steps below which there is nothing to see."""

EVALUATIONS = 2 * len(STEPS) + 64
"""Of the function, for one direction: besides the steps, for its noise and the ladder."""

Function = Callable[[np.ndarray], tuple[np.ndarray, bool]]
"""From x to all outputs joined, and whether a kink lies between the point and x."""


def over_steps(
    problem: Problem, sample: Probes, narrow: bool, clock: Clock
) -> tuple[tuple[Swept, ...], str]:
    """Sweeps in float64 and, where `narrow` asks for it, in the problem's own width; or why none.

    A random direction comes first (for a jvp its tangent, alone), then coordinates of the sample,
    as many as there is time for.
    """
    if problem.straight_through:
        return (), "the straight-through estimator is not the derivative of any function"
    both = narrow and problem.dtype is not DType.FLOAT64
    share = min(SHARE * clock.budget, clock.left()) / (1 + both)
    swept: list[Swept] = []
    try:
        with np.errstate(all="ignore"):  # at the edge of a domain f(x) may be infinite
            with until(time.perf_counter() + share):
                here = Primal(problem).at(problem.point)
                start = time.perf_counter()
                here.kinks  # noqa: B018 # to watch them takes longer than to evaluate
                price = max(clock.primal, time.perf_counter() - start)
                steps = _fitting(price, share)
                frame = _Frame(problem, sample, here, STEPS if steps is None else steps)
                swept.append(
                    _sparse(frame, here, share) if steps is None else _exact(frame, here, share)
                )
            if both:
                frame = frame.at_steps(swept[0].steps)
                with until(time.perf_counter() + share):
                    swept.append(_narrow(frame, problem, swept[0], share))
    except OutOfTimeError:
        which = problem.dtype.value if swept else DType.FLOAT64.value
        done = f"in {which} not one direction was done in its share of the budget, {share:.2g} s"
        return tuple(swept), f"{done}: raise --budget"
    except GradcliError as error:
        return tuple(swept), error.message
    return tuple(swept), ""


def _fitting(price: float, share: float) -> np.ndarray | None:
    """All steps, or some where a direction would take too long; always those of textbooks.

    None where even so a direction would not be done.
    """
    every = max(1, int(np.ceil(EVALUATIONS * price / max(share, 1e-9))))
    if every > MOST:
        return None
    return np.array([t for k, t in enumerate(STEPS) if k % every == 0 or t in TEXTBOOK])


class _Frame:
    """What a sweep goes along, and what of the outputs it looks at.

    Attributes:
        lines: The directions as lines through the point.
        directions: An array for each of `wrt`, for each of them.
        outputs: See Swept.
        steps: Likewise.
    """

    def __init__(
        self, problem: Problem, sample: Probes, here: Point, steps: np.ndarray = STEPS
    ) -> None:
        self.steps = steps
        self.directions = list(_directions(problem, sample))
        self.lines = [
            here.lines({name: v[None] for name, v in one.items()})[0] for one in self.directions
        ]
        self._weights = np.zeros(0)
        self.outputs = np.zeros(0, int)
        if problem.operator in ("gradient", "vjp"):
            bars = [np.reshape(problem.cotangents[of], -1) for of in problem.of]
            self._weights = np.concatenate(bars)
            return
        sizes = [int(np.prod(problem.shape(of))) for of in problem.of]
        starts = np.cumsum([0, *sizes[:-1]])
        parts = [start + sample.of[of] for of, start in zip(problem.of, starts, strict=True)]
        self.outputs = np.sort(np.concatenate(parts))

    def at_steps(self, steps: np.ndarray) -> _Frame:
        """With other steps."""
        other = copy.copy(self)
        other.steps = steps
        return other

    def first(self, count: int) -> _Frame:
        """Only so many of its directions."""
        other = copy.copy(self)
        other.directions, other.lines = self.directions[:count], self.lines[:count]
        return other

    def seen(self, y: np.ndarray, line: Line, *, signed: bool = True) -> np.ndarray:
        """Slopes along a line, [..., all outputs], as they are of its direction, [..., M]."""
        y = y / (line.scale or 1.0)
        if not self._weights.size:
            return np.asarray(y[..., self.outputs])
        weights = self._weights if signed else np.abs(self._weights)
        return np.asarray((y @ weights)[..., None])


def _directions(problem: Problem, sample: Probes) -> Iterator[Arrays]:
    if problem.operator == "jvp":
        yield problem.tangents
        return
    rng = np.random.default_rng(problem.seed)
    yield {name: rng.standard_normal(problem.shape(name)) for name in problem.wrt}
    each = max(1, COORDINATES // len(problem.wrt))
    for name in problem.wrt:
        for k in sample.wrt[name][:each]:
            one = {other: np.zeros(problem.shape(other)) for other in problem.wrt}
            one[name].reshape(-1)[k] = 1.0
            yield one


def _exact(frame: _Frame, here: Point, share: float) -> Swept:
    """In float64, with what the ladder makes of it, and kinks watched."""

    def f(x: np.ndarray) -> tuple[np.ndarray, bool]:
        y, watch = here.seen(x)
        return y, here.kinks.crossing(watch) <= 1

    def differences(line: Line) -> list[np.ndarray]:
        slope = slope_along(here, line)
        steps = slope.step[np.isfinite(slope.step)]
        return [
            *_differences(f, frame, line, np.float64),
            frame.seen(here.noise, line, signed=False),
            frame.seen(slope.value, line),
            # Of a sum over outputs there is no single one.
            slope.step[frame.outputs]
            if frame.outputs.size
            else np.array([np.median(steps) if steps.size else np.nan]),
        ]

    return _taken("float64", frame, differences, share)


def _narrow(frame: _Frame, problem: Problem, exact: Swept, share: float) -> Swept:
    """In the problem's own width, by onnxruntime; kinks and the ladder are those of float64."""
    run, width = compile_graph(problem, problem.own), problem.dtype.np
    primal = Primal(problem)
    casts = {v.name: v.dtype.np for v in problem.own.inputs}
    noise = rounding(problem, primal.outputs(primal.at(problem.point).y))
    doubt = np.concatenate([np.reshape(noise[of], -1) for of in problem.of])

    def f(x: np.ndarray) -> tuple[np.ndarray, bool]:
        feeds = {**problem.point, **primal.inputs(x)}
        out = run({name: np.asarray(feeds[name]).astype(to) for name, to in casts.items()})
        return np.concatenate([np.reshape(out[of], -1) for of in problem.of]).astype(float), False

    def differences(line: Line) -> list[np.ndarray]:
        k = next(k for k, one in enumerate(frame.lines) if one is line)
        return [
            *_differences(f, frame, line, width)[:2],
            exact.ahead[:, k],
            exact.behind[:, k],
            frame.seen(doubt, line, signed=False),
            exact.ladder[k],
            exact.rung[k],
        ]

    return _taken(problem.dtype.value, frame.first(len(exact.noise)), differences, share)


@dataclass(frozen=True)
class _Step:
    """What is taken at one step: the two differences, and whether a kink is crossed."""

    forward: np.ndarray
    central: np.ndarray
    ahead: bool
    behind: bool


def _stepping(
    f: Function, frame: _Frame, line: Line, width: np.dtype | type
) -> Callable[[float], _Step]:
    """Forward and central differences along a line, at whatever step."""
    start = line.x.astype(width).astype(float)
    here, _ = f(start)

    def at(t: float) -> tuple[np.ndarray, bool, float]:
        x = (line.x + t * line.v).astype(width).astype(float)
        (moves,) = np.nonzero(line.v)
        h = (x[moves[0]] - start[moves[0]]) / line.v[moves[0]] if len(moves) == 1 else t
        return *f(x), h

    def take(t: float) -> _Step:
        check()
        (up, over, h), (down, under, back) = at(t), at(-t)
        forward, central = (up - here) / h, (up - down) / (h - back)
        return _Step(frame.seen(forward, line), frame.seen(central, line), over, under)

    return take


def _differences(
    f: Function, frame: _Frame, line: Line, width: np.dtype | type
) -> list[np.ndarray]:
    """Forward and central differences along a line at every step, and which cross a kink."""
    take = _stepping(f, frame, line, width)
    return _stacked([take(t) for t in frame.steps])


def _stacked(taken: Sequence[_Step]) -> list[np.ndarray]:
    return [
        np.stack([s.forward for s in taken]),
        np.stack([s.central for s in taken]),
        np.array([s.ahead for s in taken]),
        np.array([s.behind for s in taken]),
    ]


def _sparse(frame: _Frame, here: Point, share: float) -> Swept:
    """In float64, one direction only: some steps far apart, then more around the best of them.

    Which is best nobody says who does not know the truth: the two that agree best with each other
    are where neither truncation nor noise rules.

    Raises:
        OutOfTimeError: When there is not even time for the first few.
    """
    end = time.perf_counter() + share
    line, taken = frame.lines[0], dict[float, _Step]()

    def f(x: np.ndarray) -> tuple[np.ndarray, bool]:
        if np.array_equal(x, here.x):
            return here.y, False
        y, watch = here.seen(x)
        return y, here.kinks.crossing(watch) <= 1

    take, price = _stepping(f, frame, line, np.float64), 0.0
    try:
        with until(end):
            while len(taken) < len(STEPS):
                start = time.perf_counter()
                if start + price > end:
                    break
                t = _next(taken)
                taken[t] = take(t)
                price = time.perf_counter() - start
    except OutOfTimeError:
        pass
    if len(taken) < LEAST:
        raise OutOfTimeError
    steps = sorted(taken, reverse=True)
    _, best = min(_disagreements(taken))
    forward, central, ahead, behind = _stacked([taken[t] for t in steps])
    # What rounding makes of it is seen where the step is shortest.
    noise = steps[-1] * np.abs(central[-1] - taken[best].central)
    one = frame.first(1).directions[0]
    return Swept(
        "float64",
        np.array(steps),
        {name: v[None] for name, v in one.items()},
        frame.outputs,
        forward[:, None],
        central[:, None],
        ahead[:, None],
        behind[:, None],
        noise[None],
        taken[best].central[None],
        np.full((1, len(noise)), best),
        sparse=True,
    )


def _next(taken: Mapping[float, _Step]) -> float:
    """The next step to take: first some all over, then between the best one and its neighbours."""
    first = next((t for t in COARSE if t not in taken), None)
    if first is not None:
        return first
    order = sorted(taken)
    for _, best in sorted(_disagreements(taken)):
        k = order.index(best)
        sides = [(order[j], order[j + 1]) for j in (k - 1, k) if 0 <= j < len(order) - 1]
        for low, high in sorted(sides, key=lambda s: s[0] / s[1]):
            between = [t for t in STEPS if low < t < high]
            if between:
                middle = np.sqrt(low * high)
                return float(min(between, key=lambda t: abs(np.log(t / middle))))
    return float(next(t for t in STEPS if t not in taken))


def _disagreements(taken: Mapping[float, _Step]) -> Iterator[tuple[float, float]]:
    """By how much each step's central difference is off the nearest of its neighbours'."""
    order = sorted(taken)
    for k, t in enumerate(order):
        near = [order[j] for j in (k - 1, k + 1) if 0 <= j < len(order)]
        gaps = [float(np.max(np.abs(taken[t].central - taken[u].central))) for u in near]
        crossed = taken[t].ahead or taken[t].behind
        gap = min((g for g in gaps if np.isfinite(g)), default=np.inf)
        yield (np.inf if crossed else gap), t


def _taken(
    dtype: str, frame: _Frame, differences: Callable[[Line], Sequence[np.ndarray]], share: float
) -> Swept:
    """As many directions as there is time for, and at least one.

    Raises:
        OutOfTimeError: When there is not even time for that.
    """
    end = time.perf_counter() + share
    rows: list[Sequence[np.ndarray]] = []
    for line in frame.lines:
        if rows and time.perf_counter() > end:
            break
        try:
            with until(end):
                rows.append(differences(line))
        except OutOfTimeError:
            if not rows:
                raise
            break
    forward, central, ahead, behind, noise, ladder, rung = zip(*rows, strict=True)
    directions = frame.first(len(rows)).directions
    return Swept(
        dtype,
        frame.steps,
        {name: np.stack([one[name] for one in directions]) for name in directions[0]},
        frame.outputs,
        np.stack(forward, axis=1),
        np.stack(central, axis=1),
        np.stack(ahead, axis=1),
        np.stack(behind, axis=1),
        np.stack(noise),
        np.stack(ladder),
        np.stack(rung),
    )
