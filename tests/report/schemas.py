"""The JSON Schemas as docs/json.md has them; `python -m tests.report.schemas` writes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gradcli.comparison import Cause, Verdict
from gradcli.report.jsonform import NOT_FINITE, SCHEMA_VERSION

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "json.md"
PLACE = ROOT / "gradcli" / "report" / "schema"
SECTIONS = {
    "compare": "`gradcli compare`",
    "jsonl": "JSON Lines",
    "grad": "`gradcli grad`",
    "diff": "`gradcli diff`",
}
TIMES = ("median", "mean", "stddev", "min", "max", "times[]")
TITLES = {
    "compare": "What gradcli compare --format json writes",
    "jsonl": "A line of what gradcli compare --format jsonl writes",
    "grad": "What gradcli grad --format json writes",
    "diff": "What gradcli diff --format json writes",
}

OPERATORS = ("gradient", "jacobian", "jvp", "vjp")
WORDS: dict[str, tuple[str, ...]] = {
    "verdict": tuple(map(str, Verdict)),
    "comparison_verdict": tuple(map(str, Verdict)),
    "cause": tuple(map(str, Cause)),
    "status": ("computed", "skipped", "failed"),
    "operator": OPERATORS,
}
"""Fields that take one of these."""

CONTRASTED = ("SAME", "DIFFER", "UNDECIDED")
"""Verdicts of two models."""

Schema = dict[str, Any]

NUMBER: Schema = {"anyOf": [{"type": "number"}, {"enum": list(NOT_FINITE.values())}]}
NESTED: Schema = {
    "anyOf": [
        {"$ref": "#/$defs/number"},
        {"type": "array", "items": {"$ref": "#/$defs/nested"}},
    ]
}


def rows(section: str) -> list[tuple[str, str, str]]:
    """Field, type and meaning of every row of a section's tables."""
    text = DOCS.read_text(encoding="utf-8").split(f"## {SECTIONS[section]}\n")[1].split("\n## ")[0]
    if section == "diff":
        text = text.split("`--format jsonl`")[0]
    found = re.findall(r"^\| `(\S+)` \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    if section == "diff":
        return [
            *found,
            *_again(found, "primal[]", "derivative[]"),
            *_again(found, "value", "cotangent"),
        ]
    if section != "jsonl":
        return found
    whole = rows("compare")
    method = [(f.removeprefix("methods[]."), t, m) for f, t, m in whole if f[:9] == "methods[]"]
    machine = [row for row in whole if row[0].startswith("environment.")]
    times = [row for row in whole if row[0] in TIMES]
    return [*(row for row in found if row[0] != "environment"), *method, *machine, *times]


def _again(table: list[tuple[str, str, str]], one: str, other: str) -> list[tuple[str, str, str]]:
    """The fields of one, of another that has the same."""
    return [(f"{other}{f[len(one) :]}", t, m) for f, t, m in table if f.startswith(f"{one}.")]


def schema(section: str) -> Schema:
    """The schema of one of the reports: of each field what its row says, and all of them there."""
    table = rows(section)
    times = _object([row for row in table if row[0] in TIMES])
    whole = _object([row for row in table if row[0] not in TIMES])
    used: Schema = {"number": NUMBER}
    if section == "diff":
        whole["properties"]["verdict"]["enum"] = list(CONTRASTED)
    if section == "grad":
        used["nested"] = NESTED
    elif section != "diff":
        used["times"] = {"description": "Seconds, as hyperfine names them.", **times}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:gradcli:{section}:{SCHEMA_VERSION}",
        "title": TITLES[section],
        "$comment": "New fields do not raise schema_version: ignore what you do not know.",
        **whole,
        "$defs": used,
    }


def _object(table: list[tuple[str, str, str]]) -> Schema:
    """An object of these fields; `*` stands for every name."""
    heads = list(dict.fromkeys(_head(field) for field, _, _ in table))
    properties = {
        head: _field(head, [(f[len(head) :], t, m) for f, t, m in table if _head(f) == head])
        for head in heads
    }
    if heads == ["*"]:
        return {"type": "object", "additionalProperties": properties["*"]}
    return {"type": "object", "properties": properties, "required": heads}


def _head(field: str) -> str:
    found = re.match(r"[^.\[]+", field)
    assert found is not None, field
    return found.group()


def _field(name: str, table: list[tuple[str, str, str]]) -> Schema:
    """One field: what its own row says, and what those below it do."""
    own = [(t, m) for rest, t, m in table if not rest]
    below = [(rest, t, m) for rest, t, m in table if rest]
    described = {"description": own[0][1]} if own else {}
    if not below:
        return {**described, **_typed(name, own[0][0])}
    if below[0][0].startswith("[]"):
        items = _field(name, [(rest[2:], t, m) for rest, t, m in below])
        content: Schema = {"type": "array", "items": items}
    else:
        content = _object([(rest[1:], t, m) for rest, t, m in below])
    if own and "null" in own[0][0]:
        content = {"anyOf": [content, {"type": "null"}]}
    return {**described, **content}


def _typed(name: str, said: str) -> Schema:
    """The type that a row says."""
    if name == "schema_version":
        return {"const": SCHEMA_VERSION}
    if said == "times":
        return {"anyOf": [{"$ref": "#/$defs/times"}, {"type": "null"}]}
    if said == "nested lists":
        return {"$ref": "#/$defs/nested"}
    types = re.split(", | or ", said)
    if words := WORDS.get(name):
        return {"enum": [*words, *([None] if "null" in types else [])]}
    if "number" not in types:
        return {"type": types[0] if len(types) == 1 else types}
    others = [{"type": t} for t in types if t != "number"]
    return (
        {"anyOf": [{"$ref": "#/$defs/number"}, *others]} if others else {"$ref": "#/$defs/number"}
    )


def text(section: str) -> str:
    """What the shipped file holds."""
    return json.dumps(schema(section), indent=2) + "\n"


if __name__ == "__main__":
    PLACE.mkdir(exist_ok=True)
    for name in SECTIONS:
        (PLACE / f"{name}.json").write_text(text(name), encoding="utf-8")
