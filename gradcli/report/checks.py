"""Models of a project, checked: one line a model, what is wrong in full, and a summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from gradcli.comparison import Change, Checked, Report, Verdict
from gradcli.report.cells import WORDS, Fact, Tone, seconds
from gradcli.report.headline import headline
from gradcli.report.rows import Detail
from gradcli.report.shortening import shortener
from gradcli.report.terminal import STYLES, facts, laid_out, table

if TYPE_CHECKING:
    from rich.console import RenderableType

WORD = {"CHANGED": "changed", "ERROR": "in error"}
"""What models may be called besides the verdicts."""

NOT_COMPARED = "its derivative could not be compared with its baseline, or not all of it"


def check_text(
    report: Report,
    *,
    width: int = 80,
    color: bool = False,
    detail: Detail = "normal",
    failures_only: bool = False,
) -> str:
    """The report as text.

    Args:
        report: What to say.
        width: Columns of the screen.
        color: Whether to colour it with ANSI codes.
        detail: `quiet`: the summary alone; `verbose`: every model in full.
        failures_only: Whether models without failures are left out, but for the summary.
    """
    short = _whole if detail == "verbose" else shortener((), _texts(report))
    total = summary(report)
    last = facts([replace(total, text=short(total.text))], bold=True)
    if detail == "quiet":
        return laid_out(last, width=width, color=color)
    shown = [m for m in report.models if m.exit_code or not failures_only]
    texts = [laid_out(_lines(shown, short), width=width, color=color)] if shown else []
    for model in shown:
        texts += _in_full(model, width, color, detail, short)
    return "\n".join([*texts, laid_out(last, width=width, color=color)])


def _texts(report: Report) -> Iterator[str]:
    """All that is shown of the models."""
    yield summary(report).text
    for model in report.models:
        yield from (model.name, sentence(model), *(fact.text for fact in told(model)))


def _whole(text: str) -> str:
    return text


def summary(report: Report) -> Fact:
    """All in one sentence."""
    counts = Counter(standing(m)[0] for m in report.models)
    listed = ", ".join(f"{n} {WORD.get(s) or WORDS[s]}" for s, n in counts.items())
    many = f"{len(report.models)} {'model' if len(report.models) == 1 else 'models'}"
    left = f"; not reached: {', '.join(report.left)}" if report.left else ""
    code = report.exit_code
    tone: Tone = "good" if not code else "bad" if code != 3 else "odd"
    text = f"{many} in {seconds(report.seconds)}: {listed or 'none'}{_since(report)}{left}"
    return Fact("FAILED" if code else "passed", f"{text} (exit {code})", tone)


def _since(report: Report) -> str:
    if not report.baseline:
        return ""
    found = [c for m in report.models for c in m.changes]
    bad = sum(c.fails for c in found)
    better = f", {len(found) - bad} for the better" if len(found) > bad else ""
    findings = f"{bad} finding{'' if bad == 1 else 's'}" if bad else "no findings"
    other = f", saved elsewhere: {', '.join(report.elsewhere)}" if report.elsewhere else ""
    return f"; {findings} against {report.baseline}{better}{other}"


def standing(model: Checked) -> tuple[str, Tone]:
    """What a model is in one word, and how that sounds."""
    if model.comparison is None:
        return "ERROR", "bad"
    verdict = str(model.comparison.verdict)
    decided = not model.policy.applied(model.comparison).exit_code
    if model.findings and decided:
        return "CHANGED", "bad"
    if model.held != "passed" and decided:
        return str(Verdict.INCONCLUSIVE), "odd"
    if model.exit_code:
        return verdict, "odd" if model.exit_code == 3 else "bad"
    return verdict, "good" if verdict == "AGREE" else "odd"


def sentence(model: Checked) -> str:
    """What came of a model, in a sentence."""
    if model.comparison is None:
        return model.error
    applied = model.policy.applied(model.comparison)
    if (bad := model.findings) and not applied.exit_code:
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        return f"since its baseline, {bad[0].text}{more}"
    if model.held != "passed" and not applied.exit_code:
        return NOT_COMPARED
    return headline(applied).text


def _lines(models: list[Checked], short: Callable[[str], str]) -> RenderableType:
    """A line for each."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold", max_width=24)
    grid.add_column(overflow="fold", ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    for model in models:
        word, tone = standing(model)
        grid.add_row(
            Text(word, style=STYLES[tone]),
            Text(short(model.name), style="bold"),
            Text(short(sentence(model))),
            Text(seconds(model.seconds), style=STYLES["faint"]),
        )
    return grid


def _in_full(
    model: Checked, width: int, color: bool, detail: Detail, short: Callable[[str], str]
) -> Iterator[str]:
    """A failure in full; with `verbose`, any model, and a failure whole."""
    verbose = detail == "verbose"
    said = [replace(fact, text=short(fact.text)) for fact in told(model)]
    applied = None if model.comparison is None else model.policy.applied(model.comparison)
    failed = applied is not None and applied.exit_code != 0
    if not said and not failed and not verbose:
        return
    parts: list[RenderableType] = [
        facts(
            [Fact(standing(model)[0], f"{short(model.name)}: {model.path}", standing(model)[1])],
            bold=True,
        )
    ]
    if said:
        parts.append(facts(said))
    yield laid_out(*parts, width=width, color=color)
    if applied is not None and (failed or verbose):
        yield table(
            applied,
            width=width,
            color=color,
            detail=detail,
            failures_only=failed and not verbose,
        )


def told(model: Checked) -> Iterator[Fact]:
    """What is to be said of a model besides its comparison: its error, or what has changed."""
    if model.error:
        yield Fact("error", model.error, "bad")
    if model.hint:
        yield Fact("hint", model.hint)
    for change in model.changes:
        yield Fact("finding" if change.fails else "better", change.text, tone_of(change))
    for said in model.said:
        yield Fact("baseline", said)


def tone_of(change: Change) -> Tone:
    """How a change sounds."""
    return "bad" if change.fails else "good"
