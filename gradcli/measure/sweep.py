"""Finite differences over many steps: how their error depends on the step, in either arithmetic."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from gradcli.deadline import check, until
from gradcli.engines.base import EPS, Arrays, Line, Point, Primal, Probes, Swept, compile_graph
from gradcli.engines.finite import slope_along
from gradcli.errors import GradcliError, OutOfTimeError
from gradcli.graph import DType
from gradcli.measure.clock import Clock
from gradcli.measure.primal import rounding
from gradcli.problem import Problem

SHARE = 0.2
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
                frame = _Frame(problem, sample, here, _fitting(clock.primal, share))
                swept.append(_exact(frame, here, share))
            if both:
                with until(time.perf_counter() + share):
                    swept.append(_narrow(frame, problem, swept[0], share))
    except OutOfTimeError:
        which = problem.dtype.value if swept else DType.FLOAT64.value
        done = f"in {which} not one direction was done in its share of the budget, {share:.2g} s"
        return tuple(swept), f"{done}: raise --budget"
    except GradcliError as error:
        return tuple(swept), error.message
    return tuple(swept), ""


def _fitting(price: float, share: float) -> np.ndarray:
    """All steps, or some where a direction would take too long; always those of textbooks."""
    every = max(1, int(np.ceil(EVALUATIONS * price / max(share, 1e-9))))
    return np.array([t for k, t in enumerate(STEPS) if k % min(every, MOST) == 0 or t in TEXTBOOK])


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


def _differences(
    f: Function, frame: _Frame, line: Line, width: np.dtype | type
) -> list[np.ndarray]:
    """Forward and central differences along a line at every step, and which cross a kink."""

    def at(t: float) -> tuple[np.ndarray, bool, float]:
        x = (line.x + t * line.v).astype(width).astype(float)
        (moves,) = np.nonzero(line.v)
        h = (x[moves[0]] - start[moves[0]]) / line.v[moves[0]] if len(moves) == 1 else t
        return *f(x), h

    start = line.x.astype(width).astype(float)
    here, _ = f(start)
    forward, central, ahead, behind = [], [], [], []
    for t in frame.steps:
        check()
        (up, over, h), (down, under, back) = at(t), at(-t)
        forward.append(frame.seen((up - here) / h, line))
        central.append(frame.seen((up - down) / (h - back), line))
        ahead.append(over)
        behind.append(under)
    return [np.stack(forward), np.stack(central), np.array(ahead), np.array(behind)]


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
