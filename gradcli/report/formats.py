"""All formats of a comparison, by name: each is a function from the same facts to text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gradcli.comparison import Comparison, Policy
from gradcli.report.github import github
from gradcli.report.jsonform import comparison_json
from gradcli.report.junit import junit
from gradcli.report.markdown import markdown
from gradcli.report.records import as_csv, jsonl
from gradcli.report.rows import Detail
from gradcli.report.terminal import table
from gradcli.report.web import html, needed


@dataclass(frozen=True)
class Dress:
    """How a comparison is to be shown.

    Attributes:
        command: The command line that asks the same again; None from Python.
        policy: What counts as a failure.
        detail: Of what people read: how much of it.
        failures_only: Likewise: whether what agrees is left out.
        width: Columns of the screen.
        color: Whether the screen takes colour; no other format ever does.
        draft: Whether another one follows soon, so that pictures are not worth their seconds.
    """

    command: str | None = None
    policy: Policy = field(default_factory=Policy)
    detail: Detail = "normal"
    failures_only: bool = False
    width: int = 80
    color: bool = False
    draft: bool = False


def _table(c: Comparison, d: Dress) -> str:
    return table(
        d.policy.applied(c),
        width=d.width,
        color=d.color,
        detail=d.detail,
        failures_only=d.failures_only,
    )


def _markdown(c: Comparison, d: Dress) -> str:
    return markdown(d.policy.applied(c), detail=d.detail, failures_only=d.failures_only)


FORMATS: Mapping[str, Callable[[Comparison, Dress], str]] = MappingProxyType(
    {
        "table": _table,
        "json": lambda c, d: comparison_json(d.policy.applied(c), command=d.command),
        "jsonl": lambda c, d: jsonl(d.policy.applied(c), command=d.command),
        "csv": lambda c, d: as_csv(d.policy.applied(c)),
        "markdown": _markdown,
        "junit": lambda c, d: junit(c, policy=d.policy, command=d.command),
        "github": lambda c, d: github(c, policy=d.policy),
        "html": lambda c, d: html(d.policy.applied(c), command=d.command, draft=d.draft),
    }
)
"""What makes each; gradcli.cli.options names them too, and which suffix asks for which."""


def shown(comparison: Comparison, form: str, dress: Dress | None = None) -> str:
    """A comparison as text.

    Args:
        comparison: As judged.
        form: A name of FORMATS.
        dress: How.
    """
    return FORMATS[form](comparison, dress or Dress())


PICTURED = ("html",)
"""Formats that draw the elements of a comparison, where those were kept."""


def ready(form: str) -> None:
    """Make sure, before anything is measured, that a format can be written.

    Raises:
        MissingExtraError: Where it needs an extra that is not installed.
    """
    if form == "html":
        needed()
