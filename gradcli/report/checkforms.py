"""All formats of a check, by name: those of a comparison, of every model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree as ET

from gradcli.comparison import Checked, Report, Verdict
from gradcli.report.checks import NOT_COMPARED, check_text, sentence, standing, summary
from gradcli.report.formats import Dress
from gradcli.report.github import LEVELS, Annotation, Level, annotated, commands
from gradcli.report.jsonform import SCHEMA_VERSION, comparison_json, dumps
from gradcli.report.junit import case, document, say, suite_of, visible_xml
from gradcli.report.markdown import escaped, markdown
from gradcli.report.records import as_csv, jsonl
from gradcli.report.web.index import index

BASELINE = "baseline"
"""The case of what has changed."""


def _table(r: Report, d: Dress) -> str:
    return check_text(
        r, width=d.width, color=d.color, detail=d.detail, failures_only=d.failures_only
    )


# ---- for programs --------------------------------------------------------------------------------


def _json(r: Report, d: Dress) -> str:
    """One JSON object; each comparison as `gradcli compare` writes it."""
    return dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "config": r.config,
            "baseline": r.baseline or None,
            "elsewhere": list(r.elsewhere),
            "models": [_model(m) for m in r.models],
            "left": list(r.left),
            "seconds": r.seconds,
            "findings": sum(len(m.findings) for m in r.models),
            "exit_code": r.exit_code,
            "command": d.command,
        }
    )


def _model(m: Checked) -> dict[str, Any]:
    c = m.comparison
    return {
        "name": m.name,
        "path": m.path,
        "seconds": m.seconds,
        "exit_code": m.exit_code,
        "error": {"message": m.error, "hint": m.hint} if m.error else None,
        "changes": [vars(change) for change in m.changes],
        "baseline_notes": list(m.said),
        "not_compared": list(m.uncompared),
        "comparison": None if c is None else json.loads(comparison_json(m.policy.applied(c))),
    }


def _jsonl(r: Report, d: Dress) -> str:
    done = [m.policy.applied(m.comparison) for m in r.models if m.comparison is not None]
    return "".join(jsonl(comparison, command=d.command) for comparison in done)


def _csv(r: Report, d: Dress) -> str:  # noqa: ARG001 # as every format
    done = [m.policy.applied(m.comparison) for m in r.models if m.comparison is not None]
    tables = [as_csv(comparison) for comparison in done]
    # One heading for all; a row may have line breaks of its own, and a heading has none.
    return "".join(text if not k else text.split("\r\n", 1)[1] for k, text in enumerate(tables))


# ---- for a CI ------------------------------------------------------------------------------------


def _junit(r: Report, d: Dress) -> str:
    """A suite a model: a case a method, and one of what has changed."""
    return document([_suite(m, r, d) for m in r.models] + [_unreached(name) for name in r.left])


def _suite(m: Checked, r: Report, d: Dress) -> ET.Element:
    if m.comparison is None:
        suite = ET.Element("testsuite", name=visible_xml(m.name))
        said = f"{m.error}\n{m.hint}".strip()
        say(case(suite, (m.path, "check"), "question", m.seconds), "broken", "error", said)
        return suite
    suite = suite_of(m.comparison, policy=m.policy, command=d.command, name=m.name)
    if r.baseline:
        operator = m.comparison.subject.operator
        held = case(suite, (m.path, operator), BASELINE, 0.0)
        # Schemas want output behind all cases.
        for output in suite.findall("system-out"):
            suite.remove(output)
            suite.append(output)
        told = "\n".join(change.text for change in m.findings)
        kind = "CHANGED" if m.findings else str(Verdict.INCONCLUSIVE)
        say(held, m.held, kind, told or NOT_COMPARED)
    return suite


def _unreached(name: str) -> ET.Element:
    suite = ET.Element("testsuite", name=visible_xml(name))
    say(case(suite, (name, "check"), "question", 0.0), "skipped", "left", "it was not reached")
    return suite


def _github(r: Report, d: Dress) -> str:  # noqa: ARG001 # as every format
    told: list[Annotation] = []
    for m in r.models:
        if m.comparison is None:
            said = f"{m.name}: {m.error}"
            told.append(Annotation("error", "gradcli: error", said, m.path))
            continue
        title = "gradcli: changed"
        told += [Annotation("error", title, f"{m.name}: {c.text}", m.path) for c in m.findings]
        if not m.findings and m.held in LEVELS:
            said = f"{m.name}: {NOT_COMPARED}"
            told.append(Annotation(LEVELS[m.held], "gradcli: not compared", said, m.path))
        found = annotated(m.comparison, m.policy)
        # Of a model that passes, one notice would crowd out those of others.
        told += [a for a in found if a.level != "notice" or len(r.models) == 1]
    last = summary(r)
    level: Level = "error" if r.exit_code else "notice"
    told.append(Annotation(level, f"gradcli: {last.label}", last.text, r.config))
    return commands(told)


def _markdown(r: Report, d: Dress) -> str:
    """A summary, a table of the models, and each failure in full."""
    last = summary(r)
    shown = [m for m in r.models if m.exit_code or not d.failures_only]
    blocks = [f"### {escaped(f'gradcli check {last.label}: {last.text}')}"]
    if d.detail != "quiet":
        if shown:
            blocks.append("\n".join(_rows(shown)))
        blocks += [text for m in shown for text in _in_full(m, d)]
    return "\n\n".join(blocks) + "\n"


def _rows(models: list[Checked]) -> list[str]:
    rows = [(standing(m)[0], m.name, sentence(m)) for m in models]
    heading = ["| verdict | model | |", "| :-- | :-- | :-- |"]
    return heading + [f"| {' | '.join(map(escaped, row))} |" for row in rows]


def _in_full(m: Checked, d: Dress) -> list[str]:
    blocks = []
    if m.changes:
        lines = [f"- {escaped(c.text)}" for c in m.changes]
        blocks.append("\n".join([f"**{escaped(m.name)}** since its baseline:", "", *lines]))
    if m.comparison is not None and (m.exit_code or d.detail == "verbose"):
        applied = m.policy.applied(m.comparison)
        blocks.append(markdown(applied, detail=d.detail, failures_only=d.failures_only).rstrip())
    return blocks


CHECK_FORMATS: Mapping[str, Callable[[Report, Dress], str]] = MappingProxyType(
    {
        "table": _table,
        "json": _json,
        "jsonl": _jsonl,
        "csv": _csv,
        "markdown": _markdown,
        "junit": _junit,
        "github": _github,
        "html": lambda r, d: index(r, command=d.command),
    }
)
"""What makes each."""


def checked(report: Report, form: str, dress: Dress) -> str:
    """A check as text.

    Args:
        report: What was found.
        form: A name of CHECK_FORMATS.
        dress: How; its policy is of no account, as each model has its own.
    """
    return CHECK_FORMATS[form](report, dress)
