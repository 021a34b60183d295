"""The report for a screen: planned widths, no number ever cut."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from gradcli.comparison import Comparison, Sweep
from gradcli.report.cells import Column, Fact, Row, Tone
from gradcli.report.chart import LEGEND, chart
from gradcli.report.nodes import BLAMED
from gradcli.report.rows import Detail, screen
from gradcli.report.shortening import shortened
from gradcli.report.sweeps import SWEEP_COLUMNS, sweep_facts, sweep_rows

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

STYLES: dict[Tone, str] = {
    "plain": "",
    "good": "green",
    "bad": "bold red",
    "odd": "yellow",
    "faint": "dim",
}

TONED = ("verdict", "what")
"""Columns whose cells sound as their row does."""

SHORTEST = 24
"""What a folded column needs at the least."""

NARROWEST = 40
"""Below this width nothing is planned: lines become longer than asked for."""


def table(
    comparison: Comparison,
    *,
    width: int = 80,
    color: bool = False,
    detail: Detail = "normal",
    failures_only: bool = False,
) -> str:
    """The report as text.

    Args:
        comparison: What to say.
        width: Columns of the screen; at least 40 are used.
        color: Whether to colour it with ANSI codes.
        detail: `quiet`: the headline alone; `verbose`: everything.
        failures_only: Whether methods that agree or were skipped are left out, and the advice.
    """
    content = screen(comparison, detail, failures_only=failures_only)
    if detail != "verbose":
        content = shortened(content, comparison)
    room = max(width, NARROWEST)
    parts: list[RenderableType] = [facts([content.headline], bold=True)]
    if detail == "quiet":
        return laid_out(*parts, width=width, color=color)
    parts.append(facts(content.above))
    if content.points:
        parts.append(facts(content.points))
    if content.rows:
        parts += tables(content.columns, content.rows, room)
    if content.beside:
        parts += _nodes(content.nodes, room)
        parts.append(facts(content.beside))
    drawn = [part for sweep in comparison.sweeps for part in _sweep(comparison, sweep, room)]
    if drawn:
        drawn.insert(2, facts([Fact("letters", LEGEND)]))
    said = [facts(content.below)] if content.below else []
    return laid_out(*parts, *drawn, *said, width=width, color=color)


def _sweep(comparison: Comparison, sweep: Sweep, width: int) -> Iterator[RenderableType]:
    """A drawing, a table, and what they say."""
    from rich.text import Text

    yield Text(f"error of finite differences in {sweep.dtype}, against the step h", "bold")
    yield Text(chart(sweep, width), overflow="fold")
    yield from _table(SWEEP_COLUMNS, sweep_rows(sweep), width)
    yield facts(list(sweep_facts(comparison, sweep)))


def laid_out(*parts: RenderableType, width: int, color: bool) -> str:
    """Parts one below the other, an empty line between them, nothing cut and nothing behind."""
    from rich.console import Console

    console = Console(
        file=io.StringIO(),
        width=max(width, NARROWEST),
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
        soft_wrap=False,
        _environ={},
    )
    for k, part in enumerate(parts):
        if k:
            console.print()
        console.print(part)
    assert isinstance(console.file, io.StringIO)
    return "".join(f"{line.rstrip()}\n" for line in console.file.getvalue().splitlines())


def facts(said: Sequence[Fact], *, bold: bool = False) -> Table:
    """Labels on the left, said once for a run of equal ones; sentences wrapped beside them.

    Args:
        said: The sentences.
        bold: Whether they are bold, as their labels are, in the colour of their tone.
    """
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, group in groupby(said, key=lambda fact: fact.label):
        run = list(group)
        # Sentences keep the terminal's own colour: no other can be read on every background.
        tone = STYLES[run[0].tone] if len({fact.tone for fact in run}) == 1 else ""
        heavy = f"bold {tone}".replace("bold bold", "bold").strip()
        for fact in run:
            shown = label if fact is run[0] else ""
            grid.add_row(Text(shown, style=heavy), Text(fact.text, style="bold" if bold else ""))
    return grid


def tables(columns: Sequence[Column], rows: Sequence[Row], width: int) -> Iterator[RenderableType]:
    """Rows in the widest layout that fits without cutting anything.

    One table, or one for each side of its columns above the other; those without bars; or a list.

    Args:
        columns: The columns.
        rows: The rows.
        width: Of the screen.
    """
    for wanted in (columns, [c for c in columns if not c.bar]):
        accuracy = [c for c in wanted if c.side in ("both", "accuracy")]
        cost = [c for c in wanted if c.side in ("both", "cost")]
        for tables in ([wanted], [accuracy, cost]):
            for gap in (2, 1):
                grids = [_Grid(those, rows, gap) for those in tables]
                if all(grid.width <= width for grid in grids):
                    yield from (grid.text() for grid in grids)
                    return
    yield from _listed([c for c in columns if not c.bar], rows)


def _table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> Iterator[RenderableType]:
    """One table, or a list where it is too wide."""
    for gap in (2, 1):
        if (grid := _Grid(columns, rows, gap)).width <= width:
            yield grid.text()
            return
    yield from _listed(columns, rows)


def _listed(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[RenderableType]:
    for row in rows:
        yield facts([_labelled(column, row) for column in columns])


def _nodes(rows: Sequence[Row], width: int) -> Iterator[RenderableType]:
    """The table of nodes, long names folded; a list where there is no room even for that."""
    if not rows:
        return
    last = BLAMED[-1].key
    for gap in (2, 1):
        room = width - _Grid(BLAMED[:-1], rows, gap).width - gap
        if room >= SHORTEST or _Grid(BLAMED, rows, gap).width <= width:
            folded = [part for row in rows for part in _folded(row, last, room)]
            yield _Grid(BLAMED, folded, gap).text()
            return
    yield from _listed(BLAMED[::-1], rows)


def _folded(row: Row, key: str, room: int) -> Iterator[Row]:
    """A row with one of its cells in as many lines as that needs."""
    first, *others = textwrap.wrap(row.cells[key], room, break_on_hyphens=False)
    yield Row({**row.cells, key: first}, row.tone)
    for more in others:
        yield Row({**dict.fromkeys(row.cells, ""), key: more}, row.tone)


def _labelled(column: Column, row: Row) -> Fact:
    tone: Tone = row.tone if column.key in TONED else "plain"
    return Fact(column.name, row.cells[column.key], tone)


class _Grid:
    """Cells in columns. Laid out here and not by rich, whose tables crop what does not fit."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Row], gap: int) -> None:
        from rich.cells import cell_len

        self.columns = columns
        self.rows = rows
        self.gap = gap
        self.widths = [
            max(cell_len(text) for text in (*c.heading, *(row.cells[c.key] for row in rows)))
            for c in columns
        ]
        self.width = sum(self.widths) + gap * (len(columns) - 1)

    def text(self) -> Text:
        """Headings, then a line for each row."""
        from rich.text import Text

        tall = max(len(column.heading) for column in self.columns)
        headings = [("",) * (tall - len(c.heading)) + c.heading for c in self.columns]
        lines = [self._line(level, ["bold"] * len(level)) for level in zip(*headings, strict=True)]
        for row in self.rows:
            plain = STYLES["faint"] if row.tone == "faint" else ""
            styles = [
                STYLES[row.tone] if c.key in TONED else STYLES["faint"] if c.bar else plain
                for c in self.columns
            ]
            lines.append(self._line([row.cells[c.key] for c in self.columns], styles))
        return Text("\n").join(lines)

    def _line(self, cells: Sequence[str], styles: Sequence[str]) -> Text:
        from rich.text import Text

        padded = []
        for column, width, cell, style in zip(
            self.columns, self.widths, cells, styles, strict=True
        ):
            text = Text(cell, style=style)
            missing = width - text.cell_len
            (text.pad_left if column.right else text.pad_right)(missing)
            padded.append(text)
        return Text(" " * self.gap).join(padded)
