"""The page: what a comparison says, laid out by a template, with pictures, and no way out."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from gradcli.comparison import At, Block, Comparison, Judgement, KinkAt, Sweep, how_bad
from gradcli.errors import InternalError
from gradcli.report.cells import ABSENT, Column, Fact, Row, scientific
from gradcli.report.encoding import visible
from gradcli.report.headline import headline
from gradcli.report.nodes import BLAMED, blame_row
from gradcli.report.rows import Screen, points_sentence, question, screen
from gradcli.report.sweeps import SWEEP_COLUMNS, sweep_facts, sweep_rows
from gradcli.report.web.charts import (
    POINTS,
    Chart,
    Errors,
    errors_of,
    overview,
    scatter,
    steps,
    times,
)
from gradcli.report.web.maps import Pictured, badness, chosen, layout_of, pictured, single
from gradcli.report.web.svg import needed

if TYPE_CHECKING:
    from jinja2 import Template

LARGEST = 1_000_000
"""Bytes of a page, at the most. What is large is drawn with fewer cells until it fits."""

LONGEST = 2_000
"""Characters of a sentence or a name; a longer one is cut, and says so."""


@dataclass(frozen=True)
class Amount:
    """How much a page shows.

    Attributes:
        cells: Of all heat maps together.
        blocks: That are drawn.
        rows: Of the tables of kinks and nodes.
    """

    cells: int
    blocks: int
    rows: int


AMOUNTS = (Amount(70_000, 6, 200), Amount(25_000, 4, 60), Amount(0, 0, 20))
"""What is tried, one after the other."""

ROWS = 20
"""Of the tables of kinks and nodes; the others are there for whoever opens them."""

SYMBOLS = {
    "AGREE": "✓",
    "DISAGREE": "✕",
    "KINK": "◇",
    "STAIRCASE": "▤",
    "INCONCLUSIVE": "?",
    "skipped": "–",
    "failed": "!",
}
"""Beside a verdict's colour, for whoever does not see that."""


def html(comparison: Comparison, *, command: str | None = None, draft: bool = False) -> str:
    """A comparison as one HTML file of at most a megabyte, which loads nothing.

    Pictures of the derivative and of errors need `comparison.elements`, which `gradcli.compare`
    keeps when it is called with `elements=True`.

    Args:
        comparison: What to say.
        command: The command line that asks the same again, where there is one.
        draft: Whether nothing is to be drawn, because another one follows soon or somebody waits:
            pictures take seconds, and all the rest some milliseconds.

    Raises:
        MissingExtraError: Without the extra `html`.
    """
    needed()
    for amount in AMOUNTS:
        page = _page(
            comparison, command, amount, Pictures() if draft else _drawn(comparison, amount)
        )
        if len(page.encode()) <= LARGEST:
            return page
    raise InternalError("an HTML report without pictures is larger than a megabyte")


def _page(c: Comparison, command: str | None, amount: Amount, pictures: Pictures) -> str:
    """The page with so much in it."""
    style, script = file_text("page.css"), file_text("page.js")
    said = screen(c, "verbose")
    return template("page.html").render(
        style=style,
        script=script,
        policy=policy_of(style, script),
        c=c,
        said=said,
        question=question(c.subject),
        symbols=SYMBOLS,
        methods=_methods(c, said),
        remarks=[f for f in said.below if f.label not in (*KINKY, "advice")],
        advice=[f for f in said.below if f.label == "advice"],
        pictures=pictures,
        most=POINTS,
        maps=[m.data for p in pictures.blocks for m in (*p.maps, *p.errors) if m.data],
        sweeps=[_sweep(c, s) for s in c.sweeps],
        kinks=_kinks(c.kinks, amount.rows),
        most_rows=ROWS,
        more_kinks=max(0, len(c.kinks) - amount.rows),
        near=[f for f in said.below if f.label in KINKY],
        nodes=_nodes(c, amount.rows),
        points=_points(c, amount.rows) if c.points else None,
        environment=_environment(c),
        # To be copied as it stands.
        command=command and clip(command, 20_000),
    )


@cache
def template(name: str) -> Template:
    """A file of this package as a template that escapes what it is given."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["clip"] = _told
    return environment.from_string(file_text(name))


@cache
def file_text(name: str) -> str:
    """A file of this package."""
    return files("gradcli.report.web").joinpath(name).read_text(encoding="utf-8")


def policy_of(style: str, script: str = "") -> str:
    """What the page may do: its own style, its own script, pictures within it, and nothing else."""
    own = (base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in (style, script))
    of_style, of_script = (f"'sha256-{digest}'" for digest in own)
    return (
        f"default-src 'none'; style-src {of_style}; script-src {of_script}; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def clip(text: object, most: int = LONGEST) -> str:
    """A text of at most so many characters, in one line of characters that can be seen."""
    whole = visible(str(text))
    cut = len(whole) - most
    return whole if cut <= 0 else f"{whole[:most]} … ({cut:,} more characters)"


_LEFTWARD = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]+"
)
"""Letters of scripts that are written from right to left."""


def _told(text: object, most: int = LONGEST) -> str:
    """What `clip` makes of it; such letters stand apart, and turn no numbers beside them."""
    return _LEFTWARD.sub(lambda run: f"\u2068{run[0]}\u2069", clip(text, most))


# ---- the table of methods ------------------------------------------------------------------------

_SORTED_BY: dict[str, Callable[[Judgement], float | None]] = {
    "digits": lambda j: j.correct_digits,
    "error": lambda j: j.max_rel_error,
    "uncertainty": lambda j: j.uncertainty,
    "evaluations": lambda j: j.evaluations if j.status == "computed" else None,
    "prepare": lambda j: j.prepare,
    "run": lambda j: j.run.median if j.run else None,
    "times_forward": lambda j: j.times_forward,
}
"""The number behind a cell; a column that is not here is sorted by its words."""


@dataclass(frozen=True)
class Cell:
    """A cell of a table that can be sorted.

    Attributes:
        text: What is shown.
        key: What it is sorted by; empty last.
        column: Of what.
    """

    text: str
    key: str
    column: Column


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: Its headings.
        rows: Cells, with the row's tone.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def _methods(c: Comparison, said: Screen) -> Table:
    columns = tuple(column for column in said.columns if not column.bar)
    rows = []
    for j, row in zip(c.methods, said.rows, strict=True):
        cells = tuple(Cell(row.cells[k.key], _key(j, k, row), k) for k in columns)
        rows.append((row.tone, cells))
    return Table(columns, tuple(rows))


def _key(j: Judgement, column: Column, row: Row) -> str:
    if column.key not in _SORTED_BY:
        return row.cells[column.key]
    number = _SORTED_BY[column.key](j)
    return "" if number is None or math.isnan(number) else repr(float(number))


def _plain(columns: Sequence[Column], rows: Iterable[Row]) -> Table:
    """A table that stays in its order."""
    made = ((r.tone, tuple(Cell(r.cells[k.key], "", k) for k in columns)) for r in rows)
    return Table(tuple(columns), tuple(made))


# ---- several points ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Points:
    """What came of each of several points.

    Attributes:
        said: What is of which of them.
        table: One row a point.
        more: Of how many it is not said.
    """

    said: str
    table: Table
    more: int


_POINTS = (
    Column("point", ("point",), "both", right=False),
    Column("verdict", ("verdict",), "accuracy", right=False),
    Column("digits", ("least", "digits"), "accuracy"),
    Column("error", ("max rel", "error"), "accuracy"),
    Column("method", ("of",), "accuracy", right=False),
    Column("needed", ("part of", "the tolerance"), "accuracy"),
    Column("what", ("what came of it",), "both", right=False),
)


def _points(c: Comparison, most: int) -> Points:
    """In order; of more than that many points the worst, that first."""
    order = list(range(len(c.points)))
    if len(order) > most:
        order.sort(key=lambda k: how_bad(c.points[k].comparison), reverse=True)
    rows = tuple(_point(c.points[k], shown=k == c.worst_point) for k in order[:most])
    return Points(points_sentence(c), Table(_POINTS, rows), len(order) - len(rows))


def _point(at: At, *, shown: bool) -> tuple[str, tuple[Cell, ...]]:
    said = headline(at.comparison)
    digits = min((j.correct_digits for j in at.comparison.methods if j.correct_digits is not None),
                 default=None)  # fmt: skip
    off = {j.method: j.max_rel_error for j in at.comparison.methods if j.max_rel_error is not None}
    # The worst point is the one where most of this is needed, among equals otherwise.
    needed = how_bad(at.comparison)[2]
    worst = max(off, key=lambda name: off[name], default="")
    cells = (
        (at.label + " (this page)" * shown, at.label),
        (said.label, said.label),
        (ABSENT if digits is None else f"{digits:.1f}", "" if digits is None else repr(digits)),
        (scientific(off.get(worst)), repr(off[worst]) if worst else ""),
        (worst or ABSENT, worst),
        (scientific(needed), repr(needed)),
        (said.text, said.text),
    )
    pairs = zip(cells, _POINTS, strict=True)
    return said.tone, tuple(Cell(text, key, column) for (text, key), column in pairs)


# ---- pictures ------------------------------------------------------------------------------------

UNDRAWN = (
    "Pictures are drawn at the end, and this page is from before: methods were still to be run, or"
    " somebody interrupted them."
)


@dataclass(frozen=True)
class Pictures:
    """All that is drawn; without arguments, nothing yet.

    Attributes:
        undrawn: What is not, and why.
        errors: Against the truth.
        times: Of the methods.
        blocks: Of the derivative.
        sweeps: The error over the step, a chart for each sweep; None where nothing is known.
    """

    undrawn: str = UNDRAWN
    errors: Seen | None = None
    times: Chart | None = None
    blocks: tuple[Pictured, ...] = ()
    sweeps: tuple[Chart | None, ...] = ()


def _drawn(c: Comparison, amount: Amount) -> Pictures:
    """The pictures of a page."""
    # At the ends of the range of float64 axes overflow, and pictures are none the worse.
    with np.errstate(all="ignore"):
        return Pictures(
            _undrawn(c, amount),
            _errors(c),
            times(c),
            tuple(_pictured(c, amount)),
            tuple(map(steps, c.sweeps)),
        )


@dataclass(frozen=True)
class Seen:
    """Errors against the truth.

    Attributes:
        overview: Of all methods.
        scatters: Of each one, where there are enough elements.
    """

    overview: Chart
    scatters: tuple[Chart, ...]


FEW = 8
"""Elements that need no picture of their distribution."""


def _errors(c: Comparison) -> Seen | None:
    judged = {j.method: j for j in c.methods}
    every = [errors_of(c.elements, name) for name in _compared(c.elements)]
    known = [e for e in every if e.off.size]
    if not known:
        return None
    many: list[Errors] = [e for e in known if e.off.size > FEW and np.any(e.off > 0)]
    return Seen(overview(known, c.methods), tuple(scatter(e, judged[e.method]) for e in many))


def _compared(blocks: Sequence[Block]) -> tuple[str, ...]:
    return tuple(blocks[0].values) if blocks else ()


def _pictured(c: Comparison, amount: Amount) -> list[Pictured]:
    if _are_numbers(c.elements, amount):
        return [single(c.elements)]
    blocks, _ = _worst_blocks(c, amount)
    maps = sum(layout_of(b).count + len(b.values) for b in blocks)
    each = min(9216, max(64, amount.cells // max(1, maps)))
    return [pictured(block, each, _tolerances(c)) for block in blocks]


def _are_numbers(blocks: Sequence[Block], amount: Amount) -> bool:
    """Whether a table says all that there is."""
    return 0 < len(blocks) <= amount.rows and all(b.truth.size == 1 for b in blocks)


def _tolerances(c: Comparison) -> dict[str, float]:
    return {j.method: j.rtol for j in c.methods if j.rtol is not None}


def _worst_blocks(c: Comparison, amount: Amount) -> tuple[list[Block], bool]:
    """What is drawn, of many blocks the worst, that first; and whether errors decided that."""
    if len(c.elements) <= amount.blocks:
        return list(c.elements), False
    rtol = _tolerances(c)
    bad = [float(np.max(badness(b, rtol), initial=0.0)) for b in c.elements]
    by_error = any(bad)
    size = [float(np.nanmax(np.abs(b.truth), initial=0.0)) for b in c.elements]
    order = np.argsort([-x for x in (bad if by_error else size)], kind="stable")
    return [c.elements[k] for k in order[: amount.blocks]], by_error


def _undrawn(c: Comparison, amount: Amount) -> str:
    if not c.elements:
        return "The numbers themselves were not kept, so there is no picture of them."
    left = len(c.elements) - amount.blocks
    if left <= 0 or _are_numbers(c.elements, amount):
        return ""
    if not amount.blocks:
        return f"{left:,} blocks, too large to be drawn in a page of this size."
    kept, by_error = _worst_blocks(c, amount)
    drawn = {b.name for b in kept}
    names = [clip(b.name, 80) for b in c.elements if b.name not in drawn]
    return chosen(f"{len(c.elements):,} blocks", len(kept), names, by_error=by_error)


@dataclass(frozen=True)
class Swept:
    """One sweep over steps.

    Attributes:
        table: The two formulas and the ladder.
        facts: What they mean.
    """

    table: Table
    facts: tuple[Fact, ...]


def _sweep(c: Comparison, sweep: Sweep) -> Swept:
    return Swept(_plain(SWEEP_COLUMNS, sweep_rows(sweep)), tuple(sweep_facts(c, sweep)))


# ---- kinks and nodes -----------------------------------------------------------------------------

KINKY = ("kink", "edge", "lost", "jump", "room")
"""Labels of what is said of kinks."""

_MATTERS = {True: "yes", False: "no", None: "not decided"}


def _nearest(kinks: Iterable[KinkAt]) -> list[KinkAt]:
    return sorted(kinks, key=lambda k: (not k.active, not k.touched, k.margin))


_KINKS = (
    Column("node", ("node",), "both", right=False),
    Column("op", ("operator",), "both", right=False),
    Column("index", ("element",), "both", right=False),
    Column("kind", ("what",), "both", right=False),
    Column("distance", ("distance",), "both"),
    Column("exactly", ("exactly",), "both", right=False),
    Column("matters", ("matters",), "both", right=False),
    Column("taken", ("what is taken there",), "both", right=False),
)


def _kinks(kinks: Iterable[KinkAt], most: int) -> Table:
    """The nearest first."""
    return _plain(_KINKS, (Row(_kink(k), "plain") for k in _nearest(kinks)[:most]))


def _kink(k: KinkAt) -> dict[str, str]:
    """The cells of one: what balls say is `exactly`."""
    index = f"[{', '.join(map(str, k.index))}]" if k.index else "–"
    taken = "; ".join(
        f"{t.at}: gradcli {t.gradcli:.4g}"
        + (f", PyTorch {t.pytorch:.4g}" if t.pytorch is not None else "")
        + (f", JAX {t.jax:.4g}" if t.jax is not None else "")
        for t in k.taken
    )
    exactly = {"on": "on it", "off": "off it", "open": "open"}.get(k.decided, "–")
    matters = _MATTERS[k.active] if k.touched and k.kind == "kink" else "–"
    distance = "on it" if k.margin == 0 else scientific(k.margin)
    return {
        "node": k.node,
        "op": k.op,
        "index": index,
        "kind": k.kind,
        "distance": distance,
        "exactly": exactly,
        "matters": matters,
        "taken": taken or k.convention,
    }


@dataclass(frozen=True)
class Blamed:
    """Where an error comes from.

    Attributes:
        table: Nodes, the worst first.
        facts: What is said of them.
        more: Nodes that are not listed.
    """

    table: Table
    facts: tuple[Fact, ...]
    more: int


def _nodes(c: Comparison, most: int) -> Blamed | None:
    if c.explanation is None:
        return None
    nodes = c.explanation.nodes
    rows = [blame_row(c.explanation, b) for b in nodes[:most]]
    said = screen(c).beside
    facts = tuple(f for f in said if "in --format json" not in f.text)
    # On a telephone the first column is the one that stays.
    columns = sorted(BLAMED, key=lambda column: column.key != "node")
    return Blamed(_plain(columns, rows), facts, max(0, len(nodes) - most))


# ---- what it was made with -----------------------------------------------------------------------


def _environment(c: Comparison) -> list[tuple[str, str]]:
    e, s = c.environment, c.subject
    known = (
        ("model", s.path),
        ("sha256", s.sha256),
        ("gradcli", e.gradcli),
        ("Python", e.python),
        (
            "onnxruntime",
            f"{e.onnxruntime} ({s.provider}, {s.threads} thread{'s' * (s.threads != 1)})",
        ),
        ("onnx", e.onnx),
        ("NumPy", e.numpy),
        ("python-flint", e.flint or "not installed"),
        ("system", e.system),
        ("processor", f"{e.cpu} ({e.machine})" if e.cpu else e.machine),
        ("cores", str(e.cores or "")),
        ("seed", str(s.seed)),
        ("tolerance", ", ".join(f"{rtol:g} in {dtype}" for dtype, rtol in s.rtol.items())),
    )
    return [(name, text) for name, text in known if text]
