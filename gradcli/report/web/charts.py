"""Curves and bars: errors against the truth, times, and the error of differences over the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcli.comparison import Block, Comparison, Judgement, Sweep
from gradcli.report.cells import ratio, scientific, seconds
from gradcli.report.web.svg import ROLES, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = 680, 340
"""Pixels of a picture for a page, and for a telephone."""

POINTS = 300
"""Elements that a scatter shows."""

LEAST = 1e-18
"""Where what is exactly right, or nearly, is drawn on an axis of errors, which has no 0."""


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes:
        title: A few words.
        wide: An SVG element.
        narrow: The same for a telephone; empty where the picture is small enough.
        text: What is to be seen, in a sentence.
    """

    title: str
    wide: str
    narrow: str
    text: str


def _both(title: str, text: str, draw: Callable[[Figure, bool], None], height: float) -> Chart:
    """A picture in both sizes."""
    return Chart(
        title,
        drawn(WIDE, height, lambda figure: draw(figure, True), text),
        drawn(NARROW, height, lambda figure: draw(figure, False), text),
        text,
    )


# ---- errors --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Errors:
    """One method's elements beside the truth, flat, those left out that either does not know.

    Attributes:
        method: Its name.
        size: |r| of each.
        off: |a - r| of each.
        elements: How many there are in all.
        infinite: Of how many either side is infinite, and the other is not.
    """

    method: str
    size: np.ndarray
    off: np.ndarray
    elements: int
    infinite: int = 0

    @property
    def text(self) -> str:
        """The distribution in words."""
        endless = f", {self.infinite:,} infinitely far off" if self.infinite else ""
        if not self.off.size:
            return f"{self.method}: no element is known{endless}"
        exact = int(np.sum(self.off == 0))
        some = "" if self.off.size == self.elements else f" of {self.elements:,}"
        right = f", {exact:,} exactly right" if exact else ""
        return (
            f"{self.method}: {self.off.size:,}{some} element{'s' * (self.elements != 1)},"
            f" error {scientific(float(np.median(self.off)))} in the median,"
            f" {scientific(float(np.max(self.off)))} at the most{right}{endless}"
        )


def errors_of(blocks: Sequence[Block], method: str) -> Errors:
    """What a method's elements are off by, over all blocks."""
    truth = np.concatenate([np.reshape(b.truth, -1) for b in blocks])
    value = np.concatenate([np.reshape(b.values[method], -1) for b in blocks])
    off = distance(value, truth)
    known = np.isfinite(off) & np.isfinite(truth)
    # Sums and axes are to be numbers too.
    size, far = (np.fmin(a[known], 1e300) for a in (np.abs(truth), off))
    return Errors(method, size, far, len(off), int(np.sum(np.isinf(off))))


def distance(value: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """|a - r|: 0 of one infinity twice, infinite of one alone; NaN where either is not known."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(value == truth, 0.0, np.abs(value - truth))


def overview(all_errors: Sequence[Errors], judged: Sequence[Judgement]) -> Chart:
    """One line a method: from the median error to the largest, and some elements as dots."""
    uncertain = {j.method: j.uncertainty for j in judged}

    def draw(figure: Figure, wide: bool) -> None:
        axes = figure.subplots()
        for k, e in enumerate(all_errors):
            if not e.off.size:
                continue
            y = len(all_errors) - 1 - k
            off = np.fmax(e.off, LEAST)
            dots = np.sort(off)[_spread(off.size, 60 if wide else 30)]
            median, most = float(np.median(off)), float(np.max(off))
            axes.plot([median, most], [y, y], color=ROLES["first"], linewidth=6, alpha=0.35,
                      solid_capstyle="butt")  # fmt: skip
            axes.plot(dots, np.full(dots.size, y), "o", color=ROLES["first"], markersize=2.6)
            axes.plot([most], [y], "|", color=ROLES["first"], markersize=13, markeredgewidth=2)
            if (u := uncertain.get(e.method)) and math.isfinite(u):
                axes.plot([max(u, LEAST)], [y], "D", color=ROLES["ink"], markersize=5,
                          markerfacecolor="none")  # fmt: skip
        axes.set_xscale("log")
        exact = any(np.any(e.off <= LEAST) for e in all_errors)
        _rounded(axes, axes.get_xlim(), zero=exact)
        axes.set_yticks(range(len(all_errors)), [e.method for e in reversed(all_errors)])
        axes.set_ylim(-0.6, len(all_errors) - 0.4)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("error |a − r|")
        axes.grid(axis="x")

    text = "; ".join(e.text for e in all_errors)
    return _both("Errors of every method", text, draw, 46 + 26 * len(all_errors))


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many of 0 ... count - 1, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _rounded(axes: Axes, limits: tuple[float, float], *, zero: bool) -> None:
    """Round a logarithmic axis out to powers of ten, at least four of them."""
    low = round(math.log10(LEAST)) if zero else math.floor(math.log10(limits[0]))
    high = max(math.ceil(math.log10(limits[1])), low + 4)
    axes.set_xlim(10.0 ** (low - 0.3 * zero), 10.0**high)
    _decades(axes.xaxis, low, high, 6, zero=zero)


def _decades(axis: Any, low: int, high: int, most: int, *, zero: bool = False) -> None:
    """Ticks at powers of ten, written as reports write numbers; the lowest may stand for 0."""
    step = max(1, math.ceil((high - low) / most))
    powers = range(low, high + 1, step)
    texts = [power(p) for p in powers]
    axis.set_ticks([10.0**p for p in powers], ["0", *texts[1:]] if zero else texts)
    axis.set_ticks([], minor=True)


def power(p: int) -> str:
    """A power of ten beside an axis."""
    return "1" if p == 0 else f"1e{p}"


def scatter(e: Errors, judged: Judgement) -> Chart:
    """Every element's error against its size, and how many there are of each size of error."""
    order = np.argsort(e.off)
    # The largest errors, all of them, and of the others some.
    tail, rest = order[-POINTS // 3 :], order[: -POINTS // 3]
    some = np.concatenate([rest[_spread(rest.size, 2 * POINTS // 3)], tail]) if rest.size else tail
    low, high = _decades_of(e.off)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        left.set_xscale("log")
        left.set_yscale("log")
        sizes = e.size[e.size > 0]
        small, large = (sizes.min(), sizes.max()) if sizes.size else (0.1, 1.0)
        x_low, x_high = math.floor(math.log10(small) - 0.2), math.ceil(math.log10(large) + 0.2)
        x_low = max(x_low, x_high - 12)
        x = np.fmax(e.size[some], 10.0**x_low)
        exact = e.off[some] == 0
        y = np.fmax(e.off[some], 10.0**low)
        left.plot(x[~exact], y[~exact], "o", color=ROLES["first"], markersize=3.4, alpha=0.55,
                  markeredgewidth=0)  # fmt: skip
        left.plot(x[exact], y[exact], "v", color=ROLES["ink"], markersize=4, alpha=0.55,
                  markeredgewidth=0, clip_on=False, zorder=3)  # fmt: skip
        if judged.rtol:
            line = np.array([10.0**x_low, 10.0**x_high])
            left.plot(line, judged.rtol * line, "--", color=ROLES["odd"], linewidth=1.2)
        left.set_xlim(10.0**x_low, 10.0**x_high)
        left.set_ylim(10.0**low, 10.0**high)
        _decades(left.xaxis, x_low, x_high, 4, zero=bool(np.any(e.size == 0)))
        _decades(left.yaxis, low, high, 6, zero=bool(np.any(e.off == 0)))
        left.set_xlabel("truth |r|")
        left.set_ylabel("error |a − r|")
        left.grid()
        bins = 10.0 ** np.arange(low, high + 0.25, 0.5)
        right.hist(np.clip(e.off, bins[0], bins[-1]), bins=bins, orientation="horizontal",
                   color=ROLES["first"], alpha=0.75)  # fmt: skip
        right.set_xlabel("elements")
        right.tick_params(axis="y", left=False, labelleft=False)
        right.locator_params(axis="x", nbins=2, integer=True)

    return Chart(e.method, drawn(NARROW, 230, draw, e.text), "", e.text)


def _decades_of(off: np.ndarray) -> tuple[int, int]:
    """Powers of ten around errors; what is exactly right is drawn at the lower end."""
    positive = off[off > 0]
    if not positive.size:
        return -17, -13
    low = math.floor(math.log10(float(positive.min())))
    high = math.ceil(math.log10(float(positive.max())) + 0.05)
    low = max(low, high - 18) - bool(np.any(off == 0))
    return min(low, high - 3), high


# ---- times ---------------------------------------------------------------------------------------


def times(c: Comparison) -> Chart | None:
    """A bar a method: the median run, from the fastest to the slowest, and the preparation."""
    timed = [j for j in c.methods if j.run is not None]
    if not timed:
        return None
    forward = c.primal.forward

    def draw(figure: Figure, wide: bool) -> None:
        axes = figure.subplots()
        axes.set_xscale("log")
        every = [t for j in timed if j.run for t in (*j.run.times, j.prepare or j.run.median)]
        every += [forward.median] if forward else []
        low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))
        for k, j in enumerate(timed):
            assert j.run is not None
            y = len(timed) - 1 - k
            fastest, slowest = min(j.run.times), max(j.run.times)
            axes.barh([y], [j.run.median], 0.56, left=0, color=ROLES["first"], alpha=0.4)
            axes.plot([fastest, slowest], [y, y], color=ROLES["first"], linewidth=1.6)
            axes.plot(j.run.times, [y] * len(j.run.times), "|", color=ROLES["first"],
                      markersize=8, markeredgewidth=1.4)  # fmt: skip
            if j.prepare:
                axes.plot([j.prepare], [y], "D", color=ROLES["ink"], markersize=5,
                          markerfacecolor="none")  # fmt: skip
        if forward:
            axes.axvline(forward.median, color=ROLES["odd"], linestyle="--", linewidth=1.2)
        axes.set_yticks(range(len(timed)), [j.method for j in reversed(timed)])
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.6, len(timed) - 0.4)
        axes.set_xlim(10.0**low, 10.0**high)
        powers = range(low, high + 1, 1 if wide or high - low < 5 else 2)
        axes.set_xticks([10.0**p for p in powers], [_unit(p) for p in powers])
        axes.set_xticks([], minor=True)
        axes.grid(axis="x")
        axes.set_xlabel("time")

    text = "; ".join(_time_text(j) for j in timed)
    if forward:
        text += f"; one forward pass {seconds(forward.median)}"
    return _both("Time of every method", text, draw, 46 + 26 * len(timed))


def _unit(power: int) -> str:
    unit, base = next(
        (u, b) for u, b in (("s", 0), ("ms", -3), ("µs", -6), ("ns", -99)) if power >= b
    )
    return f"{10 ** (power - (base if base > -99 else -9)):g} {unit}"


def _time_text(j: Judgement) -> str:
    assert j.run is not None
    spread = f"{seconds(min(j.run.times))} to {seconds(max(j.run.times))}"
    runs = f" over {len(j.run.times)} runs" if len(j.run.times) > 1 else ""
    prepared = f", prepared in {seconds(j.prepare)}" if j.prepare is not None else ""
    many = f", {ratio(j.times_forward)}× a forward pass" if j.times_forward is not None else ""
    return f"{j.method} {seconds(j.run.median)} ({spread}{runs}){prepared}{many}"


# ---- steps ---------------------------------------------------------------------------------------


def steps(sweep: Sweep) -> Chart | None:
    """The error of both formulas over the step, on logarithmic axes; None where none is known."""
    errors = [e for p in sweep.points for e in (p.forward, p.central) if 0 < e < math.inf]
    if not errors:
        return None
    low = max(-18, math.floor(math.log10(min(*errors, sweep.ladder_error or math.inf))))
    high = min(2, math.ceil(math.log10(max(errors))))
    low = min(low, high - 4)
    h = np.array([p.step for p in sweep.points])
    left, right = math.floor(math.log10(h.min())), math.ceil(math.log10(h.max()))
    formulas = (
        ("forward", "o", "-", ROLES["first"], [p.forward for p in sweep.points],
         [p.ahead for p in sweep.points]),
        ("central", "s", "-", ROLES["second"], [p.central for p in sweep.points],
         [p.ahead or p.behind for p in sweep.points]),
    )  # fmt: skip

    def draw(figure: Figure, wide: bool) -> None:
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.plot(h, sweep.noise / h, ":", color=ROLES["muted"], label="rounding / h")
        for name, marker, dash, color, errs, crossing in formulas:
            e, at_kink = np.array(errs), np.array(crossing)
            e = np.where(e > 0, e, 10.0**low)
            axes.plot(h, e, dash, color=color, linewidth=1, alpha=0.6)
            axes.plot(h[~at_kink], e[~at_kink], marker, color=color, markersize=4.2, label=name)
            if np.any(at_kink):
                label = f"{name}, across a kink"
                axes.plot(h[at_kink], e[at_kink], marker, color=color, markersize=4.2,
                          markerfacecolor=ROLES["paper"], label=label)  # fmt: skip
        if sweep.ladder_step is not None and sweep.ladder_error is not None:
            error = max(sweep.ladder_error, 10.0**low)
            axes.plot([sweep.ladder_step], [error], "*", color=ROLES["ink"], markersize=11,
                      label="the ladder", linestyle="none")  # fmt: skip
        for f, style in zip(sweep.formulas, ("--", ":"), strict=False):
            axes.axvline(f.textbook_step, color=ROLES["odd"], linewidth=1, linestyle=style)
        axes.set_xlim(10.0**left, 10.0**right)
        axes.set_ylim(10.0**low, 10.0**high)
        _decades(axes.xaxis, left, right, 8 if wide else 4)
        _decades(axes.yaxis, low, high, 7)
        axes.set_xlabel("step h, relative to max(1, |x|)")
        axes.set_ylabel("relative error")
        axes.grid()
        figure.legend(loc="outside upper left", ncols=3 if wide else 2, frameon=False,
                      fontsize=10, handletextpad=0.3, columnspacing=1.0)  # fmt: skip

    best = "; ".join(
        f"finite-{f.method.removeprefix('finite-')}: best step {scientific(f.best_step)} with error"
        f" {scientific(f.best_error)}, textbook step {scientific(f.textbook_step)} with error"
        f" {scientific(f.textbook_error)}"
        for f in sweep.formulas
    )
    return _both(f"Error over the step, in {sweep.dtype}", best, draw, 330)
