"""Where results go: a screen, a pipe or a file."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol


class Sink(Protocol):
    """A place for a result."""

    def write(self, data: bytes) -> None:
        """Put all of it there."""


def is_terminal() -> bool:
    """Whether somebody looks at stdout."""
    return sys.stdout is not None and sys.stdout.isatty()


def width() -> int:
    """Columns of the screen, or COLUMNS, or 80."""
    return shutil.get_terminal_size((80, 24)).columns


def colored() -> bool:
    """Whether stdout takes colour: NO_COLOR and FORCE_COLOR decide before the terminal does."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal() and os.environ.get("TERM") != "dumb"


def inert(text: str) -> str:
    """The text, of which GitHub's runner takes nothing for a command where it reads along.

    It looks for `::` behind any spaces and for `##[` anywhere, and what a tensor or a node is
    called is anybody's choice. The escapes are those of JSON, which stays what it was.
    """
    if not os.environ.get("GITHUB_ACTIONS"):
        return text
    return re.sub(r"^(\s*)::", r"\1\\u003a:", text, flags=re.MULTILINE).replace("##[", r"\u0023#[")


def show(text: str) -> None:
    """Write text to stdout, in whatever characters it has."""
    from gradcli.report import encodable

    if sys.stdout is None:
        return
    sys.stdout.write(encodable(inert(text), getattr(sys.stdout, "encoding", None)))
    sys.stdout.flush()


class _Stdout:
    def write(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def sink(path: str | None, option: str = "-o") -> AbstractContextManager[Sink]:
    """The file that -o, or another option, names, found writable now; stdout for `-` or nothing."""
    if path in (None, "-"):
        return nullcontext(_Stdout())
    from gradcli.cli.files import output

    assert path is not None
    return output(path, option)


def is_json(path: str | None) -> bool:
    """Whether a file's name asks for JSON."""
    return path is not None and path.lower().endswith(".json")


def deliver(text: str, sink: Sink, path: str | None) -> None:
    """Text to the file that -o names, or to stdout in whatever characters it has."""
    if path in (None, "-"):
        show(text)
    else:
        sink.write(text.encode())


def emit(form: str, text: str) -> None:
    """A report to stdout: a table in whatever characters that has, any other format in UTF-8."""
    if form == "table" or sys.stdout is None or is_terminal():
        show(text)
    else:
        _Stdout().write(text.encode())


@contextmanager
def progress(what: str = "") -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done, where that takes a while; nothing in a pipe.

    Args:
        what: What is done first.

    Yields:
        What is told of each thing that is done.
    """
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _: None
        return
    from gradcli.report import Line

    line = Line(sys.stderr, width() - 1)
    if what:
        line.tell(what)
    try:
        yield line.tell
    finally:
        line.remove()
