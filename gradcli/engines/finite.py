"""Finite differences in float64: the two of the textbooks, and a ladder that knows its error.

    finite-forward   (f(x + h v) - f(x)) / h
    finite-central   (f(x + h v) - f(x - h v)) / 2h
    finite           central differences at h, h/2, h/4, ..., extrapolated to h = 0 (Richardson)

Nothing here knows a derivative rule: f is evaluated, kinks are watched, and the noise of rounding
is measured. Steps are relative to max(1, |x|).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gradcli.engines.base import (
    CHUNK,
    EPS,
    Arrays,
    Engine,
    Images,
    Line,
    Options,
    Point,
    Primal,
    at_jumps,
    chunk_width,
    jump_between,
)
from gradcli.problem import Problem

FIRST, LAST = 2.0**-4, 2.0**-36
"""The longest and the shortest rung of the ladder."""

SHORTEST = 2.0**-12
"""A textbook's step is shortened before a kink by this much at most: noise grows as much."""

STEEP = 1000.0
"""A step is too long where a difference is off by so many times what its formula comes to."""

CRAMPED = 2.0**-16
"""Where all steps that cross no kink are shorter, noise is large: then one side is tried too."""

BEYOND = 2.0**-8, 2.0**-16
"""How much shorter steps are by which the ladder's end is tried."""

COLUMNS = 5
"""How many powers of h extrapolation removes at most, plus one."""

CENTRAL, SIDED, SECOND = (2, 4, 6, 8), (1, 2, 3, 4), (1, 3, 5, 7)
"""The powers of h in the error of a central and of a one-sided difference, in order, and in the
difference of the two one-sided ones."""


# ---- the textbooks' differences -----------------------------------------------------------------


class Differences:
    """A finite difference of one step, as a linear map.

    Args:
        problem: What is differentiated.
        step: Relative to max(1, |x|).
        central: Whether both sides are looked at.
        width: Directions to take at once, at most.
        fixed: Whether the step stays as it is where a kink lies within it.

    Attributes:
        judge: Whether uncertainties are estimated and kinks seen, at the price of evaluations that
            the textbook's formula does not make.
    """

    pads = False

    def __init__(
        self,
        problem: Problem,
        step: float,
        *,
        central: bool,
        width: int = CHUNK,
        fixed: bool = False,
    ) -> None:
        self._f = Primal(problem)
        self._step = step
        self._central = central
        self._fixed = fixed
        self.judge = True
        self.width = (
            chunk_width(problem.graph, min(problem.columns, width)) if self._f.is_wide else 1
        )

    @np.errstate(all="ignore")  # at the edge of a domain f(x) may be infinite
    def apply(self, point: Arrays, directions: Arrays) -> Images:
        """See Map. f(x) is computed once for each `point` object."""
        here = self._f.at(point)
        lines = here.lines(directions)
        values = self._differences(here, lines)
        if not self.judge:
            primal = {} if self._central else self._f.outputs(here.y)
            return Images(self._f.outputs(_scaled(values, lines)), primal=primal)
        doubts, jumps, notes = [], [], dict[str, None]()
        for k, line in enumerate(lines):
            values[k], doubt, jump, note = self._judged(here, line, values[k])
            doubts.append(np.where(np.isnan(doubt), np.inf, doubt))
            jumps.append(jump)
            notes[note] = None
        return Images(
            self._f.outputs(_scaled(values, lines)),
            self._f.outputs(_scaled(np.stack(doubts), lines)),
            self._f.outputs(here.y),
            tuple(note for note in notes if note),
            _jumps(self._f, jumps, lines),
        )

    def _differences(self, here: Point, lines: Sequence[Line]) -> np.ndarray:
        """Along every line, one a row."""
        ahead, h = _moved(lines, self._step)
        if not self._central:
            return np.asarray((here.many(ahead) - here.y) / h)
        behind, back = _moved(lines, -self._step)
        y = here.many(np.concatenate([ahead, behind]))
        return np.asarray((y[: len(lines)] - y[len(lines) :]) / (h - back))

    def _judged(
        self, here: Point, line: Line, value: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        """The difference, by a shorter step before a kink; its doubt; jumps; what to say of kinks.

        The doubt is truncation, as half the step shows it, and noise.
        """
        none = np.zeros_like(value)
        if line.scale == 0:
            return value, none, none, ""
        step, note = self._step, ""
        wide = _Rung(here, line, step)
        while wide.ahead <= 1 and not (wide.jumped or self._fixed) and step > SHORTEST * self._step:
            step *= max(0.5 * wide.ahead, 2.0**-4)
            wide = _Rung(here, line, step)
        if step < self._step and wide.ahead > 1:
            value = wide.slope if self._central else wide.forward
            note = f"where a step of {self._step:.1g} crosses a kink, a shorter one was taken"
        else:
            step, wide = self._step, _Rung(here, line, self._step)
        narrow = _Rung(here, line, step / 2)
        truncation = _truncation(value, wide, narrow)
        doubt = truncation + here.noise / step + here.drift
        if wide.jumped:
            jump = jump_between(here, line, -step if self._central else 0.0, step)
            if np.any(jump):
                return value, doubt + wide.swing, jump, at_jumps(wide.jumped)
        if wide.crossing > 1:
            value, doubt, steep = self._shortened(here, line, step, narrow, value, doubt)
            return value, doubt, none, steep or note
        if wide.ahead > 1:
            # The only kink within the step is at the point: it matters as far as the sides differ.
            return value, doubt + np.abs(wide.jump) + np.abs(narrow.jump), none, note
        note = f"a step of {step:.1g} crosses a kink; the uncertainty allows for it"
        return value, doubt + wide.swing, none, note

    def _shortened(
        self,
        here: Point,
        line: Line,
        step: float,
        rung: _Rung,
        value: np.ndarray,
        doubt: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Of each output the difference by the best of some shorter steps.

        A textbook's step is for functions that vary over 1. Of those that vary over less it is far
        too long.

        Args:
            here: The point.
            line: The line.
            step: What was taken.
            rung: Half of it.
            value: The differences by that step.
            doubt: Their doubts.
        """
        note, reach = "", self._step ** (2 if self._central else 1)
        while not self._fixed and step > SHORTEST * self._step:
            noise = here.noise / step + here.drift
            steep = (doubt > 2 * noise) & (doubt > STEEP * reach * np.abs(value))
            if not np.any(steep & np.isfinite(doubt)):
                break
            step /= 2
            wide, rung = rung, _Rung(here, line, step / 2)
            shorter = wide.slope if self._central else wide.forward
            certainty = _truncation(shorter, wide, rung) + here.noise / step + here.drift
            better = steep & (certainty < doubt)
            value, doubt = np.where(better, shorter, value), np.where(better, certainty, doubt)
            note = f"where a step of {self._step:.1g} is too long, a shorter one was taken"
        return value, doubt, note


def _truncation(value: np.ndarray, wide: _Rung, narrow: _Rung) -> np.ndarray:
    """What a difference is off because its step is not 0, from the rung of half the step.

    The even part of a forward difference's error is seen exactly, as its distance to the central
    one. Of the odd part this is 3/2 for short steps, and enough for long ones.
    """
    return np.asarray(np.abs(value - wide.slope) + 2 * np.abs(wide.slope - narrow.slope))


def _moved(lines: Sequence[Line], t: float) -> tuple[np.ndarray, np.ndarray]:
    """The points at t on every line, one a row, and how far they are really, as a column."""
    steps = [line.step(t) for line in lines]
    return np.stack([x for x, _ in steps]), np.array([[h] for _, h in steps])


def _scaled(rows: np.ndarray, lines: Sequence[Line]) -> np.ndarray:
    """Slopes along lines as slopes along the directions that they were drawn through."""
    return np.asarray(rows / np.array([[line.scale or 1.0] for line in lines]))


class _Rung:
    """The central difference at one step.

    Attributes:
        slope: [M], the difference.
        forward: [M], the one-sided difference ahead.
        swing: [M], the sizes of the two one-sided differences together: whatever kinks lie
            between, the slope here is hardly off by more.
        jump: [M], the one-sided difference ahead less the one behind.
        crossing: Which part of the step ends at the first kink; infinity without one.
        ahead: Likewise, of kinks that the point itself does not lie on.
        jumped: The nodes that jump on the way.
    """

    def __init__(self, here: Point, line: Line, t: float) -> None:
        (ahead, h), (behind, back) = line.step(t), line.step(-t)
        (up, over), (down, under) = here.seen(ahead), here.seen(behind)
        self.slope = (up - down) / (h - back)
        self.forward = (up - here.y) / h
        self.jump = self.forward - (down - here.y) / back
        self.swing = (np.abs(up - here.y) + np.abs(down - here.y)) / t
        self.crossing = min(here.kinks.crossing(over), here.kinks.crossing(under))
        seen = (here.kinks.crossing(w, ties=False) for w in (over, under))
        self.ahead = self.crossing if self.crossing > 1 else min(seen)
        self.jumped = list(dict.fromkeys(n for w in (over, under) for n in here.kinks.jumped(w)))


def _jumps(f: Primal, jumps: Sequence[np.ndarray], lines: Sequence[Line]) -> Arrays:
    """As they are of the directions that the lines were drawn through; nothing where none is."""
    return f.outputs(_scaled(np.stack(jumps), lines)) if np.any(jumps) else {}


# ---- the ladder ---------------------------------------------------------------------------------


class _Tableau:
    """Differences at h, h/2, h/4, ...: of each output the most certain extrapolation is kept.

    The tableau is Neville's. An entry's uncertainty is its distance to the two entries that it was
    made of (Ridders 1982, "Accurate computation of F'(x) and F'(x)F''(x)"), plus the noise of f,
    which shorter steps magnify.

    Args:
        noise: [M], of one evaluation of f, times what the difference makes of it at h = 1.
        drift: [M], by how much that grows with h.
        powers: Of h, in the error of the difference, in order.

    Attributes:
        value: [M], the most certain entries.
        doubt: [M], their uncertainties.
        step: [M], the shortest rungs that they were made of.
    """

    def __init__(self, noise: np.ndarray, drift: np.ndarray, powers: Sequence[int]) -> None:
        self._noise, self._drift = noise, drift
        self._ratios = [2.0**p for p in powers[: COLUMNS - 1]]
        self.restart()

    def restart(self) -> None:
        """Forget what was seen on the other side of a kink."""
        self._last: list[np.ndarray] = []
        self.value = np.full_like(self._noise, np.nan)
        self.doubt = np.full_like(self._noise, np.inf)
        self.step = np.full_like(self._noise, np.nan)

    def __bool__(self) -> bool:
        """Whether there is any rung."""
        return bool(self._last)

    def add(self, slope: np.ndarray, h: float) -> None:
        """One rung, half as long as the one before."""
        rough = self._noise / h + self._drift
        if self._last:
            # Longer steps may agree with each other and know nothing of a narrow place: shorter
            # ones come nearer to the derivative, or what was taken for it is none.
            before, now = np.abs(self._last[0] - self.value), np.abs(slope - self.value)
            self.doubt = np.where(now > before + self.doubt + 4 * rough, np.inf, self.doubt)
        row, gain = [slope], 1.0
        self._keep(slope, np.abs(slope) + rough, h)
        for ratio, above in zip(self._ratios, self._last, strict=False):
            entry = (ratio * row[-1] - above) / (ratio - 1)
            gain *= (ratio + 0.5) / (ratio - 1)
            doubt = np.maximum(np.abs(entry - row[-1]), np.abs(entry - above))
            self._keep(entry, doubt + gain * rough, h)
            row.append(entry)
        self._last = row

    def _keep(self, value: np.ndarray, doubt: np.ndarray, h: float) -> None:
        doubt = doubt + 4 * EPS * np.abs(value)  # of the subtractions and divisions themselves
        better = np.isfinite(value) & (doubt < self.doubt)
        self.value = np.where(better, value, self.value)
        self.doubt = np.where(better, doubt, self.doubt)
        self.step = np.where(better, h, self.step)

    def contradicted(self, slope: np.ndarray, crossing: float, h: float) -> bool:
        """Whether a far shorter step shows that what was kept is no limit; then it is not kept.

        Not if it crosses a kink.
        """
        if crossing <= 1:
            return False
        off = np.abs(slope - self.value) > self.doubt + 4 * (self._noise / h + self._drift)
        self.doubt = np.where(off, np.inf, self.doubt)
        return bool(np.any(off))

    def done(self, h: float) -> bool:
        """Whether noise alone makes every rung from h on worse than what there is."""
        return bool(self) and bool(np.all(self._noise / h + self._drift >= self.doubt))


def _rungs() -> Iterator[float]:
    t = FIRST
    while t >= LAST:
        yield t
        t /= 2


Rung = Callable[[float], tuple[np.ndarray, float]]
"""From a step: the slopes over it, and which part of it ends at the first kink."""


def _climb(ladder: _Tableau, rung: Rung, look: Rung) -> int:
    """Go down the ladder as long as it pays; the number of rungs that a kink cost.

    Args:
        ladder: Where rungs are kept.
        rung: Makes one.
        look: Likewise, of one that is not kept.
    """
    dropped, below = 0, np.inf
    for t in _rungs():
        if t > below:
            continue
        # Long steps may all agree beside a place that is narrower than the last of them.
        if ladder.done(t) and not any(
            ladder.contradicted(*look(t * part), t * part) for part in BEYOND
        ):
            break
        slope, crossing = rung(t)
        if crossing <= 1:
            dropped += 1
            ladder.restart()
            # A tie that is left somewhere on the way may have stood still at first.
            below = crossing * t if crossing > 0 else below
        else:
            ladder.add(slope, t)
    return dropped


class Ladder:
    """The ladder as a linear map, one direction at a time.

    Args:
        problem: What is differentiated.
    """

    width = 1
    pads = False

    def __init__(self, problem: Problem) -> None:
        self._f = Primal(problem)

    @np.errstate(all="ignore")  # at the edge of a domain f(x) may be infinite
    def apply(self, point: Arrays, directions: Arrays) -> Images:
        """See Map. What belongs to the point is computed once for each `point` object."""
        here = self._f.at(point)
        lines = here.lines(directions)
        slopes = [slope_along(here, line) for line in lines]
        notes = dict.fromkeys(slope.note for slope in slopes)
        return Images(
            self._f.outputs(_scaled(np.stack([slope.value for slope in slopes]), lines)),
            self._f.outputs(_scaled(np.stack([slope.doubt for slope in slopes]), lines)),
            self._f.outputs(here.y),
            tuple(note for note in notes if note),
            _jumps(self._f, [slope.jump for slope in slopes], lines),
        )


@dataclass(frozen=True)
class Slope:
    """What the ladder makes of a line.

    Attributes:
        value: [M], the derivative along it.
        doubt: [M], its uncertainty.
        jump: [M], the part that is jumps of the function.
        step: [M], the shortest step that was used; NaN where only one side was looked at.
        note: What to say of kinks.
    """

    value: np.ndarray
    doubt: np.ndarray
    jump: np.ndarray
    step: np.ndarray
    note: str = ""


def slope_along(here: Point, line: Line) -> Slope:
    """The derivative along a line, by the ladder."""
    none, nowhere = np.zeros_like(here.y), np.full_like(here.y, np.nan)
    if line.scale == 0:
        return Slope(none, none, none, nowhere)
    ladder = _Tableau(here.noise, here.drift, CENTRAL)
    jump = _Tableau(4 * here.noise, here.drift, SECOND)

    def rung(t: float) -> tuple[np.ndarray, float]:
        at = _Rung(here, line, t)
        if at.crossing <= 1:
            jump.restart()
        else:
            jump.add(at.jump, t)
            kept.append(t)
        return at.slope, at.crossing

    kept: list[float] = []

    def look(t: float) -> tuple[np.ndarray, float]:
        at = _Rung(here, line, t)
        return at.slope, at.crossing

    dropped = _climb(ladder, rung, look)
    if ladder:
        note = f"{_near(here)}: longer steps were dropped" if dropped else ""
        # Margins miss a tie of several that is left for another; the slopes on both sides do not.
        hidden = np.maximum(np.abs(jump.value) - jump.doubt, 0.0)
        value, doubt, step = ladder.value, ladder.doubt, ladder.step
        if max(kept) < CRAMPED:
            # Steps that short are noise. On the side without the kink there is room for long ones.
            for sign in (-1, 1):
                sided, certainty = _side(here, line, sign)
                better = (certainty < doubt) & (np.abs(sided - value) <= certainty + doubt)
                value, doubt = np.where(better, sided, value), np.where(better, certainty, doubt)
                step = np.where(better, np.nan, step)
        return Slope(value, doubt + hidden, none, step, note)
    (left, _), (right, doubt) = _side(here, line, -1), _side(here, line, 1)
    note = f"{_near(here)}: every step crosses it, so the difference is one-sided"
    last = _Rung(here, line, LAST)
    leap = jump_between(here, line, -LAST, LAST) if last.jumped else none
    note = at_jumps(last.jumped) if np.any(leap) else note
    return Slope(right, doubt + np.abs(right - left), leap, nowhere, note)


def _near(here: Point) -> str:
    near = [near for near in here.kinks.near() if near.kind == "kink"]
    if not near:
        return "a kink is near"
    at = near[0]
    where = f"at {list(at.index)}"
    if at.margin == 0:
        return f"node {at.node!r} ({at.op}) is exactly on a kink {where}"
    return f"node {at.node!r} ({at.op}) has a kink within {at.margin:.1g} {where}"


def _side(here: Point, line: Line, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """The one-sided derivative along the line, ahead (1) or behind (-1), and its uncertainty."""
    ladder = _Tableau(2 * here.noise, here.drift, SIDED)
    piece = here.seen(line.step(sign * LAST)[0])[1]

    def rung(t: float) -> tuple[np.ndarray, float]:
        moved, h = line.step(sign * t)
        y, watch = here.seen(moved)
        return (y - here.y) / h, piece.crossing(watch)

    _climb(ladder, rung, rung)
    if ladder:
        return ladder.value, ladder.doubt
    moved, h = line.step(sign * np.sqrt(EPS))
    value = (here.seen(moved)[0] - here.y) / h
    return value, np.abs(value) + 2 * here.noise / abs(h)


Sided = Callable[[Arrays], tuple[Arrays, Arrays, Arrays]]
"""From a direction, an array for each of `wrt`: left, right, and an uncertainty of either."""


def one_sided(problem: Problem, point: Arrays) -> Sided:
    """The derivatives just behind and just ahead of a point, along whatever direction is given.

    Both are those of the requested outputs, so an inactive tie gives two equal ones.

    Args:
        problem: What is differentiated.
        point: An array for each input.

    Returns:
        A function of a direction. It gives left and right, the limits of (f(x + t v) - f(x)) / t
        for t below and above 0, and an uncertainty that holds for either; each an array for each
        of `of`.
    """
    f = Primal(problem)
    here = f.at(point)

    @np.errstate(all="ignore")
    def along(direction: Arrays) -> tuple[Arrays, Arrays, Arrays]:
        line = Line.through(here.x, f.join(direction))
        if line.scale == 0:
            zeros = f.outputs(np.zeros_like(here.y))
            return zeros, zeros, zeros
        (left, left_doubt), (right, right_doubt) = (_side(here, line, sign) for sign in (-1, 1))
        doubt = np.maximum(left_doubt, right_doubt)
        behind, ahead, around = (f.outputs(y / line.scale) for y in (left, right, doubt))
        return behind, ahead, around

    return along


# ---- the engines --------------------------------------------------------------------------------


def _prepare_forward(problem: Problem, options: Options) -> Differences:
    step = options.step or float(np.sqrt(EPS))
    fixed = options.step is not None
    return Differences(problem, step, central=False, width=options.width, fixed=fixed)


def _prepare_central(problem: Problem, options: Options) -> Differences:
    step = options.step or float(np.cbrt(EPS))
    fixed = options.step is not None
    return Differences(problem, step, central=True, width=options.width, fixed=fixed)


def _prepare_ladder(problem: Problem, options: Options) -> Ladder:
    del options  # the ladder finds its steps itself
    return Ladder(problem)


FORWARD = Engine(
    name="finite-forward",
    about="one-sided finite difference of one step, (f(x + h) - f(x)) / h, in float64",
    mode="push",
    prepare=_prepare_forward,
    uses="impl",
    reach=float(np.sqrt(EPS)),
    price=5.0,
)

CENTRAL_DIFFERENCE = Engine(
    name="finite-central",
    about="central finite difference of one step, (f(x + h) - f(x - h)) / 2h, in float64",
    mode="push",
    prepare=_prepare_central,
    uses="impl",
    reach=float(np.cbrt(EPS)) ** 2,
    price=6.0,
)

LADDER = Engine(
    name="finite",
    about="central finite differences on a ladder of steps, extrapolated, with an error estimate",
    mode="push",
    prepare=_prepare_ladder,
    uses="impl",
    reach=EPS ** (8 / 9),
    price=20.0,
)
