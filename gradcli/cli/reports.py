"""Where a comparison's reports go: stdout or -o, and every --export, rewritten as it grows."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import click

from gradcli.cli import screen
from gradcli.cli.shell import say
from gradcli.errors import GradcliError, UsageError

if TYPE_CHECKING:
    from gradcli.cli.files import Output
    from gradcli.report import Dress

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

SUFFIXES: dict[str, tuple[str, ...]] = {
    "table": (".txt",),
    "json": (".json",),
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
    "markdown": (".md", ".markdown"),
    "junit": (".xml",),
    "github": (),
    "html": (".html", ".htm"),
}
"""The formats, named here for the help, which must not import them, and how their files end."""

SUMMARY = "GITHUB_STEP_SUMMARY"
"""Where GitHub says which file is the summary of a step."""

SUMMARY_BYTES = 1024 * 1024
"""Of such a file; GitHub shows nothing of a larger one."""


SHARE = 0.05
"""Of the time that has passed: what may be spent on exports that are written anew soon."""

FREE = 0.5
"""Seconds that may be spent on them at any rate."""


class Export(NamedTuple):
    """A file that is to hold a report."""

    form: str
    path: str


class ExportType(click.ParamType):  # type: ignore[type-arg] # generic from click 8.4 on only
    """FORMAT=FILE, or a file whose suffix says the format."""

    name = "export"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Export:
        """The format and the file."""
        if isinstance(value, Export):
            return value
        text = str(value)
        form, equals, path = text.partition("=")
        if equals and form in SUFFIXES:
            if path in ("", "-"):
                self.fail(f"{text!r} names no file; --format writes to stdout", param, ctx)
            return Export(form, path)
        named = equals and Path(form).name == form and "." not in form
        if named or (guessed := by_suffix(text)) is None:
            near = difflib.get_close_matches(form, SUFFIXES, 1) if named else []
            hint = f"did you mean {near[0]}=?" if near else f"one of {', '.join(SUFFIXES)}"
            self.fail(
                f"{text!r} does not say which format to write: FORMAT=FILE, {hint}", param, ctx
            )
        return Export(guessed, text)


def by_suffix(path: str) -> str | None:
    """The format that a file's name asks for."""
    suffix = Path(path).suffix.lower()
    return next((form for form, ends in SUFFIXES.items() if suffix in ends), None)


_REPORT = (
    click.option("-q", "--quiet", "detail", flag_value="quiet", help="Only the headline."),
    click.option("-v", "--verbose", "detail", flag_value="verbose", help="All that is known."),
    click.option("--failures-only", is_flag=True, help="Leave out what agrees, and the advice."),
    click.option(
        "--format",
        "form",
        type=click.Choice(list(SUFFIXES)),
        help="[default: by the suffix of -o, else table]",
    ),
    click.option(
        "-o", "--output", metavar="FILE", type=click.Path(), help="Write the report to a file."
    ),
    click.option(
        "--export",
        "exports",
        multiple=True,
        type=ExportType(),
        metavar="FORMAT=FILE",
        help="Write a report to a file besides, and anew whenever a method is done; FORMAT= may be"
        " left out where the suffix says it (repeat it).",
    ),
    click.option(
        "--inconclusive",
        type=click.Choice(["fail", "warn", "ok"]),
        help="What a comparison that decided nothing counts as: fail is exit code 3. [default: fail"
        " where no witness could decide, else warn]",
    ),
    click.option(
        "--exit-zero",
        is_flag=True,
        help="Exit with 0 whatever the verdict; errors keep their codes.",
    ),
)


def report_options(command: F) -> F:
    """Add the options of a report."""
    for decorate in reversed(_REPORT):
        command = decorate(command)
    return command


def refuse_forms(
    form: str | None, output: str | None, exports: Sequence[Export], forms: Container[str], by: str
) -> None:
    """Refuse a format that only one comparison has.

    Args:
        form: As given to --format.
        output: As given to -o, whose suffix may ask for it.
        exports: As given to --export.
        forms: Those that there are.
        by: The command.

    Raises:
        UsageError: Which says what to do instead.
    """
    guessed = None if form else by_suffix(output or "")
    for wanted in filter(None, (form, guessed, *(export.form for export in exports))):
        if wanted not in forms:
            raise UsageError(
                f"{by} writes no {wanted}, which is of one model",
                f"one of {', '.join(f for f in SUFFIXES if f in forms)}; of one model: gradcli"
                f" compare MODEL --input FILE --export {wanted}=FILE",
            )


class Reports(Generic[T]):
    """The reports of one thing, each found writable before the work begins.

    Args:
        form: Of the one that goes to stdout or -o.
        output: Where that one goes; None for stdout.
        exports: The others, by format.
        dress: How they are to be shown.
        show: Makes the text of one, of what is found, its format and how it is to be shown.
    """

    def __init__(
        self,
        form: str,
        output: Output | None,
        exports: Sequence[tuple[str, Output]],
        dress: Dress,
        show: Callable[[T, str, Dress], str],
    ) -> None:
        self._form = form
        self._output = output
        self._exports = exports
        self._dress = dress
        self._show = show
        self._warned = False
        self._start = time.perf_counter()
        self._spent = 0.0

    def keep(self, made: Callable[[], T]) -> None:
        """Write every export that can be written again, for the case that nothing follows.

        Args:
            made: Makes what is known so far. Where that and writing it have taken more than their
                share of the time already, this one is left out: the next has all of it.
        """
        start = time.perf_counter()
        again = [(form, place) for form, place in self._exports if place.is_replaced]
        if again and self._spent <= max(FREE, SHARE * (start - self._start)):
            self._drafts(made(), again)
            self._spent += time.perf_counter() - start

    def _drafts(self, found: T, places: Sequence[tuple[str, Output]]) -> None:
        texts = self._texts(found, draft=True)
        for form, place in places:
            try:
                place.write(texts(form))
            except GradcliError as error:
                # The rest of the comparison may still reach the screen; `finish` tries again.
                if not self._warned:
                    say(f"warning: {error.message}", error.hint)
                self._warned = True

    def finish(self, found: T, *, in_haste: bool = False) -> None:
        """Write everything.

        Args:
            found: The answer.
            in_haste: Whether somebody waits for the end of it, so that nothing is drawn.

        Raises:
            OutputError: When a file cannot be written, after all others were.
        """
        from gradcli.report import PICTURED

        failure: GradcliError | None = None
        if self._output is None:
            text = self._text(self._form, found, to_screen=True, draft=in_haste)
            screen.emit(self._form, text)
        else:
            self._exports = [(self._form, self._output), *self._exports]
        pictured = [e for e in self._exports if e[0] in PICTURED]
        if not in_haste:
            # Pictures take seconds, in which much can happen: what was measured is safe by then.
            self._drafts(found, [e for e in pictured if e[1].is_replaced])
        texts = self._texts(found, draft=in_haste)
        with screen.progress("drawing" if pictured else ""):
            for form, place in sorted(self._exports, key=lambda e: e[0] in PICTURED):
                try:
                    place.write(texts(form))
                except GradcliError as error:
                    failure = error
        if "github" in (self._form, *(form for form, _ in self._exports)):
            self._summarise(found)
        if failure is not None:
            raise failure

    @property
    def tells_notes(self) -> bool:
        """Whether the reader of stdout finds the comparison's notes there."""
        whole = self._dress.detail != "quiet"
        return whole and self._output is None and self._form in ("table", "markdown")

    @property
    def pictured(self) -> bool:
        """Whether any of them draws the elements of the answer."""
        from gradcli.report import PICTURED

        return any(form in PICTURED for form in (self._form, *(form for form, _ in self._exports)))

    def _texts(self, found: T, *, draft: bool) -> Callable[[str], bytes]:
        """What makes the text of a format, each once, for however many files."""
        return cache(lambda form: self._text(form, found, draft=draft).encode())

    def _text(self, form: str, found: T, *, to_screen: bool = False, draft: bool = False) -> str:
        color = self._dress.color and to_screen
        return self._show(found, form, replace(self._dress, color=color, draft=draft))

    def _summarise(self, found: T) -> None:
        """Append the Markdown to the summary of GitHub's step, as far as there is room."""
        from gradcli.report import capped

        path = os.environ.get(SUMMARY)
        if not path:
            return
        try:
            with Path(path).open("ab") as file:
                room = SUMMARY_BYTES - file.tell()
                file.write(capped(self._text("markdown", found), room).encode())
        except OSError as error:
            say(f"warning: the summary of the step cannot be written: {error.strerror}")


@contextmanager
def reports(
    form: str | None,
    output: str | None,
    exports: Sequence[Export],
    dress: Dress,
    show: Callable[[T, str, Dress], str],
) -> Iterator[Reports[T]]:
    """Open all that is to be written.

    Args:
        form: As given to --format.
        output: As given to -o.
        exports: As given to --export.
        dress: How reports are to be shown.
        show: See `Reports`.

    Raises:
        UsageError: When two reports would go to one file.
        OutputError: When nothing can be written to one.
        MissingExtraError: When one needs an extra that is not installed.
    """
    from gradcli.cli.files import output as opened
    from gradcli.report import ready

    in_file = None if output in (None, "-") else output
    _distinct([*([in_file] if in_file else []), *(path for _, path in exports)])
    chosen = form or by_suffix(in_file or "") or "table"
    for wanted in (chosen, *(e.form for e in exports)):
        ready(wanted)
    with ExitStack() as stack:
        main = stack.enter_context(opened(in_file)) if in_file else None
        others = [(e.form, stack.enter_context(opened(e.path, "--export"))) for e in exports]
        yield Reports(chosen, main, others, dress, show)


def _distinct(paths: Sequence[str]) -> None:
    seen: set[str] = set()
    for path in paths:
        real = os.path.realpath(path)
        if real in seen and Path(real).is_file() | (not Path(real).exists()):
            raise UsageError(f"two reports are to go to {path}", "give each a file of its own")
        seen.add(real)
