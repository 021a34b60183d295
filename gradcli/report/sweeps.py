"""A sweep over steps, as cells and sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator

from gradcli.comparison import Comparison, Formula, Sweep
from gradcli.report.cells import ABSENT, Column, Fact, Row, ratio, scientific

SWEEP_COLUMNS = (
    Column("method", ("method",), "both", right=False),
    Column("best_step", ("best", "step"), "both"),
    Column("best_error", ("its", "error"), "both"),
    Column("textbook_step", ("textbook", "step"), "both"),
    Column("textbook_error", ("its", "error"), "both"),
    Column("order", ("falls", "as"), "both"),
    Column("kink", ("kinks", "from"), "both"),
)
"""Of the table of a sweep."""

ON_IT = 1e-10
"""Steps so short that a kink which they cross is where the point is, or as good as there."""


def sweep_rows(sweep: Sweep) -> tuple[Row, ...]:
    """The two formulas and the ladder."""
    ladder = {
        "method": "chosen" if sweep.sparse else "finite (ladder)",
        "best_step": scientific(sweep.ladder_step),
        "best_error": scientific(sweep.ladder_error),
        **dict.fromkeys(("textbook_step", "textbook_error", "order", "kink"), ABSENT),
    }
    return (*(_formula(f) for f in sweep.formulas), Row(ladder, "plain"))


def _formula(f: Formula) -> Row:
    error = f.textbook_error if math.isfinite(f.textbook_error) else None
    cells = {
        "method": f.method,
        "best_step": scientific(f.best_step),
        "best_error": scientific(f.best_error),
        "textbook_step": scientific(f.textbook_step),
        "textbook_error": scientific(error),
        "order": ABSENT if f.order is None else f"h^{f.order:.1f}",
        "kink": "all" if f.kink and f.kink < ON_IT else scientific(f.kink),
    }
    return Row(cells, "plain")


def sweep_facts(c: Comparison, sweep: Sweep) -> Iterator[Fact]:
    """What the table and the drawing of a sweep mean, in sentences."""
    ways = []
    if sweep.directions:
        some = f"{sweep.directions} coordinate{'s' * (sweep.directions != 1)}"
        ways.append("the tangent" if c.subject.operator == "jvp" else some)
    ways += ["a random direction"] * bool(sweep.along)
    worst = f"the worst of {sweep.elements:,} elements" if sweep.elements > 1 else "the element"
    relative = "relative to the largest" if sweep.elements > 1 else "relative"
    yield Fact(
        "sweep",
        f"{sweep.dtype}, along {' and '.join(ways)}, against the {c.reference.kind} reference;"
        f" errors are those of {worst}, {relative}; steps h are relative to max(1, |x|)",
    )
    for f in sweep.formulas:
        if (text := _reading(f)) and f.best_step is not None:
            yield Fact("sweep", f"{f.method}: {text}")
    if sweep.sparse:
        yield Fact(
            "sweep",
            f"one evaluation takes long here: {len(sweep.points)} steps, closer together around the"
            " one that agrees best with its neighbours, which L marks in the ladder's place;"
            " a larger --budget takes more",
        )
    if sweep.ladder_step is None and not sweep.sparse:
        yield Fact("sweep", "the ladder finds no step that crosses no kink", "odd")


def _reading(f: Formula) -> str:
    """Where which error rules."""
    parts = []
    if f.kink is not None and f.kink < ON_IT:
        return "every step crosses a kink, so that none is better than another"
    if f.best_step is not None:
        parts.append(f"below {scientific(f.best_step)} noise rules, and the error grows as 1/h")
    if f.order is not None:
        parts.append(f"above it truncation, which falls as h^{f.order:.1f}")
    if f.kink is not None:
        parts.append(f"from {scientific(f.kink)} on steps cross a kink")
    if f.best_error and math.isfinite(f.textbook_error):
        worse = f.textbook_error / f.best_error
        parts.append(
            f"the textbook step {scientific(f.textbook_step)} is"
            f" {f'{_times(worse)} times worse' if worse > 1.05 else 'as good as the best'}"
        )
    elif not math.isfinite(f.textbook_error):
        parts.append(f"the textbook step {scientific(f.textbook_step)} does not move the input")
    return "; ".join(parts)


def _times(x: float) -> str:
    return scientific(x) if x >= 1e4 else ratio(x)
