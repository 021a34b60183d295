"""The report as Markdown, in GitHub's dialect: for a pull request, an issue, a job's summary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from gradcli.comparison import Comparison
from gradcli.report.cells import Column, Fact, Row
from gradcli.report.encoding import visible
from gradcli.report.nodes import BLAMED
from gradcli.report.rows import Detail, screen
from gradcli.report.shortening import shortened
from gradcli.report.sweeps import SWEEP_COLUMNS, sweep_facts, sweep_rows


def markdown(
    comparison: Comparison, *, detail: Detail = "normal", failures_only: bool = False
) -> str:
    """A heading, the facts, a table of the methods, what is odd, and the advice.

    Args:
        comparison: What to say.
        detail: As of `table`.
        failures_only: Likewise.
    """
    content = screen(comparison, detail, failures_only=failures_only)
    if detail != "verbose":
        content = shortened(content, comparison)
    blocks = [f"### {escaped(_sentence(content.headline))}"]
    if detail != "quiet":
        blocks += [
            bulleted((*content.above, *content.points)),
            tabled(content.columns, content.rows),
        ]
        if content.beside:
            blocks += [tabled(BLAMED, content.nodes), bulleted(content.beside)]
        for sweep in comparison.sweeps:
            blocks.append(f"Error of finite differences in {sweep.dtype}, against the step h:")
            blocks.append(tabled(SWEEP_COLUMNS, sweep_rows(sweep)))
            blocks.append(bulleted(sweep_facts(comparison, sweep)))
        blocks.append(bulleted(content.below))
    return "\n\n".join(block for block in blocks if block) + "\n"


def _sentence(fact: Fact) -> str:
    return f"{fact.label}: {fact.text}" if fact.label else fact.text


def bulleted(facts: Iterable[Fact]) -> str:
    """Labelled sentences, one a line."""
    return "\n".join(f"- **{escaped(fact.label)}** {escaped(fact.text)}" for fact in facts)


def tabled(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """A table in GitHub's form, without the bars of a screen; none of no rows."""
    if not rows:
        return ""
    shown = [column for column in columns if not column.bar]

    def lines() -> Iterator[str]:
        yield _line(escaped(column.name) for column in shown)
        yield _line("--:" if column.right else ":--" for column in shown)
        for row in rows:
            yield _line(escaped(row.cells[column.key]) for column in shown)

    return "\n".join(lines())


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


_MARKUP = re.compile(r"[\\`*_\[\]|~$]")
_LINKS = re.compile(r"(?i)(?<=www)\.|:(?=//)")
_MENTIONS = re.compile(r"[@#](?=\w)")
_WORD_JOINER = "\N{WORD JOINER}"


def escaped(text: str) -> str:
    """Text that says in Markdown what it says here: no markup, no HTML, no link, no mention.

    A word joiner, which nobody sees, stands behind @ and #, which GitHub else takes for somebody,
    who is told, or for an issue.
    """
    safe = _MARKUP.sub(r"\\\g<0>", visible(text))
    safe = _LINKS.sub(r"\\\g<0>", safe)
    safe = safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MENTIONS.sub(rf"\g<0>{_WORD_JOINER}", safe)


CUT = "\n\n*The rest does not fit here.*\n"


def capped(text: str, size: int) -> str:
    """As many of its first lines as fit into so many bytes of UTF-8, and that there were more."""
    if len(text.encode()) <= size:
        return text
    room = size - len(CUT.encode())
    kept = text.encode()[: max(room, 0)].rpartition(b"\n")[0].decode()
    return f"{kept}{CUT}" if room > 0 else ""
