"""A line on a terminal that says what is being done, with a bar where it is known how much."""

from __future__ import annotations

from threading import Lock, Timer
from typing import TYPE_CHECKING, TextIO

from gradcli.engines.base import Part

if TYPE_CHECKING:
    from rich.progress import Progress

EVERY = 8
"""How often a second the line is drawn."""

LEAST = 40
"""Columns below which there is no room for a bar."""

PATIENCE = 0.4
"""Seconds before the line is drawn at all: what is done sooner needs none."""

ROOM = 36
"""Columns for the bar, the count and the time."""


class Line:
    """The line, from the first that it is told until it is removed.

    Args:
        stream: The terminal.
        width: Its columns.
    """

    def __init__(self, stream: TextIO, width: int) -> None:
        self._progress = _progress(stream, width)
        self._task = self._progress.add_task("", total=None, count="")
        self._width = width
        self._lock = Lock()
        self._gone = False
        self._timer = Timer(PATIENCE, self._draw)
        self._timer.daemon = True

    def tell(self, what: str) -> None:
        """What is done next; a Part says how far along it is, too."""
        if not (self._timer.ident or self._gone):
            self._timer.start()
        part = what if isinstance(what, Part) else None
        words = part.what if part else what
        room = self._width - ROOM if self._width >= LEAST else self._width
        # `update` takes None for no change.
        self._progress.tasks[0].total = part.total if part else None
        self._progress.update(
            self._task,
            description=words if len(words) <= room else f"{words[: room - 1]}…",
            completed=part.done if part else 0,
            count=f"{part.done:,}/{part.total:,}" if part else "",
        )

    def remove(self) -> None:
        """Leave the terminal as if nothing had been there."""
        self._timer.cancel()
        with self._lock:
            self._gone = True
            if self._progress.live.is_started:
                self._progress.stop()

    def _draw(self) -> None:
        with self._lock:
            if not self._gone:
                self._progress.start()


def _progress(stream: TextIO, width: int) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    words = TextColumn("{task.description}", markup=False)
    if width < LEAST:
        columns: list[TextColumn | BarColumn | TimeElapsedColumn] = [words]
    else:
        count = TextColumn("{task.fields[count]}", markup=False)
        columns = [words, BarColumn(bar_width=12), count, TimeElapsedColumn()]
    return Progress(*columns, console=console, transient=True, refresh_per_second=EVERY)
