"""The page: what a comparison says, laid out by a template, with pictures, and no way out."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np

from gradcli.comparison import Block, Comparison, Judgement, KinkAt
from gradcli.errors import InternalError
from gradcli.report.cells import Column, Fact, Row, scientific
from gradcli.report.encoding import visible
from gradcli.report.nodes import BLAMED, blame_row
from gradcli.report.rows import Screen, question, screen
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
from gradcli.report.web.maps import Pictured, pictured, sheets_of, single
from gradcli.report.web.svg import needed

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
        draft: Whether another one follows soon, so that pictures of elements are not worth their
            seconds.

    Raises:
        MissingExtraError: Without the extra `html`.
    """
    needed()
    if draft:
        comparison = replace(comparison, elements=())
    for amount in AMOUNTS:
        # At the ends of the range of float64 axes overflow, and pictures are none the worse.
        with np.errstate(all="ignore"):
            page = _page(comparison, command, amount)
        if len(page.encode()) <= LARGEST:
            return page
    raise InternalError("an HTML report without pictures is larger than a megabyte")


def _page(c: Comparison, command: str | None, amount: Amount) -> str:
    """The page with so much in it."""
    from jinja2 import Environment, StrictUndefined

    style, script, template = (_file(f"page.{kind}") for kind in ("css", "js", "html"))
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["clip"] = clip
    said = screen(c, "verbose")
    drawn = _pictured(c.elements, amount)
    return environment.from_string(template).render(
        style=style,
        script=script,
        policy=_policy(style, script),
        c=c,
        said=said,
        question=question(c.subject),
        symbols=SYMBOLS,
        methods=_methods(c, said),
        remarks=[f for f in said.below if f.label not in (*KINKY, "advice")],
        advice=[f for f in said.below if f.label == "advice"],
        errors=_errors(c),
        most=POINTS,
        times=times(c),
        blocks=drawn,
        maps=[m.data for p in drawn for m in (*p.maps, *p.errors) if m.data],
        undrawn=_undrawn(c.elements, drawn),
        sweeps=[_sweep(c, k) for k in range(len(c.sweeps))],
        kinks=[_kink(k) for k in _nearest(c.kinks)[: amount.rows]],
        more_kinks=max(0, len(c.kinks) - amount.rows),
        near=[f for f in said.below if f.label in KINKY],
        nodes=_nodes(c, amount.rows),
        environment=_environment(c),
        command=command,
    )


def _file(name: str) -> str:
    return files("gradcli.report.web").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
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


# ---- pictures ------------------------------------------------------------------------------------


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


def _pictured(blocks: Sequence[Block], amount: Amount) -> list[Pictured]:
    if blocks and len(blocks) <= amount.rows and all(b.truth.size == 1 for b in blocks):
        return [single(blocks)]
    chosen = blocks[: amount.blocks]
    maps = sum(len(sheets_of(b)[0]) + len(b.values) for b in chosen)
    each = min(9216, max(64, amount.cells // max(1, maps)))
    return [pictured(block, each) for block in chosen]


def _undrawn(blocks: Sequence[Block], drawn: Sequence[Pictured]) -> str:
    if not blocks:
        return "The numbers themselves were not kept, so there is no picture of them."
    drawn_blocks = sum(bool(p.name) for p in drawn)
    if drawn_blocks and drawn_blocks < len(blocks):
        return f"{len(blocks):,} blocks, the first {len(drawn)} drawn."
    return ""


@dataclass(frozen=True)
class Swept:
    """One sweep over steps.

    Attributes:
        chart: The curve; None where nothing is known.
        table: The two formulas and the ladder.
        facts: What they mean.
    """

    chart: Chart | None
    table: Table
    facts: tuple[Fact, ...]


def _sweep(c: Comparison, k: int) -> Swept:
    sweep = c.sweeps[k]
    return Swept(
        steps(sweep), _plain(SWEEP_COLUMNS, sweep_rows(sweep)), tuple(sweep_facts(c, sweep))
    )


# ---- kinks and nodes -----------------------------------------------------------------------------

KINKY = ("kink", "edge", "lost", "jump", "room")
"""Labels of what is said of kinks."""

_MATTERS = {True: "yes", False: "no", None: "not decided"}


def _nearest(kinks: Iterable[KinkAt]) -> list[KinkAt]:
    return sorted(kinks, key=lambda k: (not k.active, not k.touched, k.margin))


def _kink(k: KinkAt) -> tuple[str, ...]:
    """Node, operator, element, what it is, distance, what balls say, whether it matters, slopes."""
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
    return (k.node, k.op, index, k.kind, distance, exactly, matters, taken or k.convention)


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
    return Blamed(_plain(BLAMED, rows), facts, max(0, len(nodes) - most))


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
