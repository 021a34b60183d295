"""The report as workflow commands: GitHub shows each as an annotation of the run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from gradcli.comparison import At, Comparison, Judgement, Policy, Standing, Verdict, at_points
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

LEVELS: Mapping[Standing, Level] = {"failed": "error", "undecided": "warning"}
"""How loud the whole is, where it is louder than a notice."""


class Annotation(NamedTuple):
    """What GitHub shows of a run.

    Attributes:
        level: How loud.
        title: What it is.
        text: In a sentence.
        path: The file that it is of.
    """

    level: Level
    title: str
    text: str
    path: str = ""


def github(comparison: Comparison, *, policy: Policy | None = None) -> str:
    """One annotation for everything that is said of methods, those of the same together.

    What disagrees or broke is an error, what is undecided a warning, a kink a notice; the verdict
    comes last, as what the whole counts as.

    Args:
        comparison: As judged.
        policy: What counts as what.
    """
    return commands(annotated(comparison, policy or Policy()))


def annotated(comparison: Comparison, policy: Policy) -> list[Annotation]:
    """Those of one comparison, methods of which the same is said together.

    Of several points the worst comes first, then what is wrong at the others.
    """
    points = list(at_points(comparison))
    worst = points.pop(comparison.worst_point if comparison.points else 0)
    wrong = (a for at in points for a in _annotated(at, policy) if a.level != "notice")
    return [*_annotated(worst, policy), *wrong]


def _annotated(at: At, policy: Policy) -> list[Annotation]:
    groups: dict[Annotation, list[str]] = {}
    for annotation, method in _found(at.comparison, policy):
        groups.setdefault(annotation, []).append(method)
    path = at.comparison.subject.path
    where = f"{at.label}: " if at.label else ""
    return [
        a._replace(
            text=f"{where}{', '.join(methods)}: {a.text}" if any(methods) else f"{where}{a.text}",
            path=path,
        )
        for a, methods in groups.items()
    ]


def commands(told: Sequence[Annotation]) -> str:
    """As the runner reads them, the loudest first, as many as it shows."""
    levels: tuple[Level, ...] = ("error", "warning", "notice")
    kept = [a for level in levels for a in _first([a for a in told if a.level == level])]
    return "".join(f"{_command(a)}\n" for a in kept)


def _found(c: Comparison, policy: Policy) -> Iterator[tuple[Annotation, str]]:
    for j in c.methods:
        level = _level(j, policy)
        if level is not None:
            yield Annotation(level, _title(str(j.verdict or j.status)), _why(j)), j.method
    for method in c.unfinished:
        yield Annotation("error", _title("unfinished"), "it has not been run"), method
    said = headline(policy.applied(c))
    level = LEVELS.get(policy.of_whole(c), "notice")
    yield Annotation(level, _title(str(c.verdict)), f"{said.label}: {said.text}"), ""


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


def _first(told: list[Annotation]) -> list[Annotation]:
    """As many as GitHub shows; the last one says how many there are besides."""
    if len(told) <= MOST:
        return told
    shown = MOST - 1
    more = f"{len(told) - shown:,} more: see the report"
    return [*told[:shown], told[0]._replace(title="gradcli", text=more)]


def _command(a: Annotation) -> str:
    # A model that came by stdin or from bytes is no file of the repository.
    named = {} if a.path in NAMELESS else {"file": a.path.replace(os.sep, "/")}
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
