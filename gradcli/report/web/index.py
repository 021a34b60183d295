"""The page of a check: its models in a table, and of each what is to be said, without pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradcli.comparison import Checked, Report
from gradcli.report.cells import Fact, Tone, seconds
from gradcli.report.checks import sentence, standing, summary, told
from gradcli.report.encoding import visible
from gradcli.report.terminal import table
from gradcli.report.web.page import file_text, policy_of, template
from gradcli.report.web.svg import needed

SYMBOLS: Mapping[Tone, str] = {"good": "✓", "bad": "✗", "odd": "!"}
"""Beside each verdict, which colour alone would not tell."""

FULL = 100_000
"""Characters of reports that a page has of all models together: others are told in a line."""


@dataclass(frozen=True)
class Model:
    """What the page says of one model.

    Attributes:
        name: What it is called.
        path: Its file.
        word: Its verdict.
        tone: How that sounds.
        sentence: What came of it.
        took: Seconds, as they are told.
        facts: Its findings, or its error.
        report: The comparison as a screen shows it; empty where there is none.
        failed: Whether that is shown at once.
    """

    name: str
    path: str
    word: str
    tone: Tone
    sentence: str
    took: str
    facts: tuple[Fact, ...]
    report: str
    failed: bool

    @property
    def full(self) -> bool:
        """Whether there is more to say than a line."""
        return bool(self.facts or self.report)


def index(report: Report, *, command: str | None = None) -> str:
    """A check as one HTML file that needs nothing else.

    Args:
        report: What was found.
        command: The command line that checks the same again.

    Raises:
        MissingExtraError: Without the extra `html`.
    """
    needed()
    models, left = [], FULL  # those that fail are told in full before others
    for m in sorted(report.models, key=lambda m: m.exit_code == 0):
        models.append(made := _model(m, left))
        left -= len(made.report)
    order = {m.name: k for k, m in enumerate(report.models)}
    style = file_text("page.css")
    page: str = template("index.html").render(
        policy=policy_of(style),
        style=style,
        symbols=SYMBOLS,
        summary=summary(report),
        config=report.config,
        models=sorted(models, key=lambda m: order[m.name]),
        command=command,
    )
    return page


def _model(m: Checked, left: int) -> Model:
    word, tone = standing(m)
    text = ""
    if m.comparison is not None:
        said = table(m.policy.applied(m.comparison), width=100)
        lines = (visible(line) for line in said.splitlines())
        text = "\n".join(lines) if len(said) <= left else ""
    facts = tuple(told(m))
    took = seconds(m.seconds)
    return Model(
        m.name, m.path, word, tone, sentence(m), took, facts, text, m.exit_code not in (0, 2)
    )
