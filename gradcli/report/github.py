"""The report as workflow commands: GitHub shows each as an annotation of the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Literal, NamedTuple

from gradcli.comparison import Comparison, Judgement, Policy, Verdict
from gradcli.report.encoding import visible
from gradcli.report.headline import headline
from gradcli.report.rows import why

MOST = 10
"""Annotations of one level in a step; GitHub drops those beyond."""

LONGEST = 4000
"""Characters of a message: more than that is for the report."""

NAMELESS = ("", "<stdin>", "<bytes>")
"""What models are called that are no files."""

Level = Literal["error", "warning", "notice"]


class _Annotation(NamedTuple):
    level: Level
    title: str
    text: str


def github(comparison: Comparison, *, policy: Policy | None = None) -> str:
    """One annotation for everything that is said of methods, those of the same together.

    What disagrees or broke is an error, what is undecided a warning, a kink a notice; the verdict
    comes last, as what the whole counts as.

    Args:
        comparison: As judged.
        policy: What counts as what.
    """
    policy = policy or Policy()
    groups: dict[_Annotation, list[str]] = {}
    for annotation, method in _found(comparison, policy):
        groups.setdefault(annotation, []).append(method)
    told = [
        a._replace(text=f"{', '.join(methods)}: {a.text}" if any(methods) else a.text)
        for a, methods in groups.items()
    ]
    levels: tuple[Level, ...] = ("error", "warning", "notice")
    kept = [a for level in levels for a in _first([a for a in told if a.level == level])]
    return "".join(f"{_command(a, comparison.subject.path)}\n" for a in kept)


def _found(c: Comparison, policy: Policy) -> Iterator[tuple[_Annotation, str]]:
    for j in c.methods:
        level = _level(j, policy)
        if level is not None:
            yield _Annotation(level, _title(str(j.verdict or j.status)), _why(j)), j.method
    for method in c.unfinished:
        yield _Annotation("error", _title("unfinished"), "it has not been run"), method
    said = headline(policy.applied(c))
    standings: dict[str, Level] = {"failed": "error", "undecided": "warning"}
    level = standings.get(policy.of_whole(c), "notice")
    yield _Annotation(level, _title(str(c.verdict)), f"{said.label}: {said.text}"), ""


def _level(j: Judgement, policy: Policy) -> Level | None:
    standing = policy.standing(j)
    if standing in ("failed", "broken"):
        return "error"
    if standing == "undecided":
        return "warning"
    return "notice" if j.verdict is Verdict.KINK else None


def _title(what: str) -> str:
    return f"gradcli: {what}"


def _why(j: Judgement) -> str:
    return why(j) if j.verdict is not None else j.reason


def _first(annotations: list[_Annotation]) -> list[_Annotation]:
    """As many as GitHub shows; the last one says how many there are besides."""
    if len(annotations) <= MOST:
        return annotations
    shown = MOST - 1
    more = f"{len(annotations) - shown:,} more: see the report"
    return [*annotations[:shown], _Annotation(annotations[0].level, "gradcli", more)]


def _command(a: _Annotation, path: str) -> str:
    # A model that came by stdin or from bytes is no file of the repository.
    named = {} if path in NAMELESS else {"file": path.replace(os.sep, "/")}
    properties = {**named, "title": a.title}
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    text = visible(a.text)
    short = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    return f"::{a.level} {listed}::{_data(short)}"


def _data(text: str) -> str:
    """As the runner reads it back; without this a name could end the command and begin another."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(visible(text)).replace(":", "%3A").replace(",", "%2C")
