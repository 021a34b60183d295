"""`gradcli check`: the models of a project, as its configuration says."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from gradcli.cli import screen
from gradcli.cli.reports import Export, refuse_forms, report_options, reports
from gradcli.cli.shell import INTERRUPTED, command_line, say
from gradcli.errors import UsageError

if TYPE_CHECKING:
    from gradcli.checks import Baseline, Entry
    from gradcli.comparison import Checked, Inconclusive, Report, Snapshot


@click.command("check", short_help="Check the models that a project's configuration names.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--config",
    metavar="FILE",
    help="The configuration. [default: the nearest gradcli.toml, or pyproject.toml with"
    " [tool.gradcli], here or above]",
)
@click.option(
    "--baseline",
    metavar="FILE",
    help="Find what has changed since this was saved: a derivative, a method's error, or its cost"
    " beside a forward pass. [default: as configured]",
)
@click.option(
    "--save-baseline",
    "saved",
    metavar="FILE",
    help="Save what the models are now. With names, only those are saved anew.",
)
@click.option("-x", "--exit-first", is_flag=True, help="Stop at the first failure.")
@report_options
def command(
    names: tuple[str, ...],
    config: str | None,
    baseline: str | None,
    saved: str | None,
    exit_first: bool,
    detail: Literal["quiet", "normal", "verbose"] | None,
    failures_only: bool,
    form: str | None,
    output: str | None,
    exports: tuple[Export, ...],
    inconclusive: Literal["fail", "warn", "ok"] | None,
    exit_zero: bool,
) -> int:
    """Compare the methods on every model that the project's configuration names, or on those of
    these NAMEs, and hold them against a baseline where there is one.

    \b
    The least that a pyproject.toml says:
      [[tool.gradcli.model]]
      path = "model.onnx"
      inputs = "point.npz"

    \b
    Examples:
      gradcli check
      gradcli check --save-baseline baseline.json
      gradcli check --failures-only --export junit=report.xml

    Exit codes: the gravest of all models': 0 they agree and nothing has changed; 1 a method
    disagrees, or there is a finding; 2 an error in the command, the configuration, a model or an
    input; 3 nothing could be decided; 130 interrupted, after what is done was told.
    """  # noqa: D205, D301 # click shows it as the help
    from gradcli import checks
    from gradcli.report import CHECK_FORMATS, Dress, checked

    if baseline is not None and saved is not None:
        raise UsageError("both --baseline and --save-baseline are given", "compare first")
    refuse_forms(form, output, exports, CHECK_FORMATS, "gradcli check")
    found = checks.read(Path(config) if config is not None else checks.find(Path.cwd()))
    entries = found.chosen(names)
    held = None if saved is not None else baseline or found.baseline
    before = None if held is None else checks.read_baseline(Path(held))
    _refuse_unknown(before, entries, held)
    given = {"--save-baseline": saved, "-o": output}
    written_to = [*given.items(), *(("--export", export.path) for export in exports)]
    models = (path for entry in entries for path in entry.files)
    _refuse_own(written_to, [str(found.path), *filter(None, [held]), *models])
    if saved is not None:
        before = _older(Path(saved), bool(names))
    dress = Dress(
        command_line(),
        detail=detail or "normal",
        failures_only=failures_only,
        width=screen.width(),
        color=screen.colored(),
    )
    with (
        reports(form, output, exports, dress, checked) as written,
        screen.sink(saved, "--save-baseline") as kept,
    ):
        with screen.progress() as tell:
            run = _Run(str(found.path), entries, before, held or "", saved is not None, tell)
            run.all(written.keep, exit_first, inconclusive, exit_zero)
        written.finish(run.report(), in_haste=run.interrupted)
        if saved is not None and not run.interrupted:
            _save(kept, saved, run, before if names else None)
    if run.interrupted:
        say("interrupted")
        return INTERRUPTED
    return run.report().exit_code


class _Run:
    """The models, one after the other.

    Args:
        config: The configuration.
        entries: The models.
        before: What they were; None where they are not held against anything.
        held: The file of that.
        keeping: Whether what they are is wanted.
        tell: Called with a few words before each step.

    Attributes:
        entries: The models.
        kept: What they are, by name.
        interrupted: Whether somebody interrupted.
    """

    def __init__(
        self,
        config: str,
        entries: Sequence[Entry],
        before: Baseline | None,
        held: str,
        keeping: bool,
        tell: Callable[[str], None],
    ) -> None:
        self.entries = entries
        self.kept: dict[str, Snapshot] = {}
        self.interrupted = False
        self._config = config
        self._before = before
        self._held = held
        self._keeping = keeping
        self._tell = tell
        self._done: list[Checked] = []
        self._start = time.perf_counter()

    def all(
        self,
        keep: Callable[[Callable[[], Report]], None],
        exit_first: bool,
        inconclusive: Inconclusive | None,
        exit_zero: bool,
    ) -> None:
        """Check them; `keep` is called with what makes a report whenever one is done."""
        try:
            for entry in self.entries:
                self._one(entry, inconclusive, exit_zero)
                keep(self.report)
                if exit_first and self._done[-1].exit_code:
                    return
        except KeyboardInterrupt:
            self.interrupted = True

    def report(self) -> Report:
        """What is known."""
        from gradcli import checks
        from gradcli.comparison import Report
        from gradcli.onnxfile import printable

        done = tuple(self._done)
        left = tuple(printable(entry.name) for entry in self.entries[len(done) :])
        seconds = time.perf_counter() - self._start
        other = checks.elsewhere(self._before) if self._held and self._before else ()
        return Report(printable(self._config), done, left, printable(self._held), seconds, other)

    def _one(self, entry: Entry, inconclusive: Inconclusive | None, exit_zero: bool) -> None:
        from gradcli.checks import same_machine
        from gradcli.cli.checking import check

        before = self._before
        where = f"{len(self._done) + 1}/{len(self.entries)} {entry.name}: "
        checked, now = check(
            entry,
            before.models.get(entry.name) if before is not None else None,
            keeping=self._keeping,
            same_machine=before is None or same_machine(before),
            inconclusive=inconclusive,
            exit_zero=exit_zero,
            progress=lambda what: self._tell(prefixed(where, what)),
        )
        self._done.append(checked)
        if now is not None:
            self.kept[entry.name] = now


def prefixed(where: str, what: str) -> str:
    """What is done, and of which model; how far along it is stays known."""
    from gradcli.engines.base import Part

    if isinstance(what, Part):
        return Part(f"{where}{what.what}", what.done, what.total)
    return f"{where}{what}"


def _refuse_unknown(before: Baseline | None, entries: Sequence[Entry], held: str | None) -> None:
    """Refuse a baseline that lacks a model."""
    missing = [e.name for e in entries if before is not None and e.name not in before.models]
    if missing:
        raise UsageError(
            f"{held} has no model called {', '.join(missing)}",
            f"save it: gradcli check {missing[0]} --save-baseline {held}",
        )


def _refuse_own(written: Sequence[tuple[str, str | None]], read: Sequence[str]) -> None:
    """Refuse to write over something that the configuration names to be read, or over that."""
    known = {os.path.realpath(path) for path in read}
    for option, path in written:
        if path not in (None, "-") and os.path.realpath(path or "") in known:
            raise UsageError(f"{option} {path}: is what this command reads", "choose another name")


def _older(path: Path, needed: bool) -> Baseline | None:
    """The baseline that is to be replaced; one that cannot be read only where it is needed."""
    from gradcli import checks

    try:
        return checks.read_baseline(path) if path.is_file() else None
    except UsageError:
        if needed:
            raise
        return None


def _save(kept: screen.Sink, path: str, run: _Run, older: Baseline | None) -> None:
    """Write the baseline, unless a model has none to be kept.

    Args:
        kept: Where to.
        path: Of it, to be told.
        run: The models.
        older: Of which other models are kept; without their costs where those are of elsewhere.
    """
    from gradcli import checks

    if lacking := [e.name for e in run.entries if e.name not in run.kept]:
        say(f"{path} is not written: there is nothing to keep of {', '.join(lacking)}")
        return
    others: Mapping[str, Snapshot] = {}
    if older is not None:
        same = checks.same_machine(older)
        others = older.models if same else {n: s.timeless for n, s in older.models.items()}
    kept.write(checks.baseline_text({**others, **run.kept}).encode())
    say(f"wrote {path}: {len(run.kept)} models")
