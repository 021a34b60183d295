"""All formats of a contrast of two models, by name: a row, a case or a line a tensor."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree as ET

from gradcli.comparison import Policy, Standing
from gradcli.contrast import Block, Contrast
from gradcli.report.contrasted import (
    COLUMNS,
    agrees,
    all_parts,
    contrast_text,
    exit_code,
    headline,
    parting,
    told,
    worst,
)
from gradcli.report.formats import Dress
from gradcli.report.github import Annotation, Level, commands
from gradcli.report.jsonform import SCHEMA_VERSION, dumps, plain
from gradcli.report.junit import case, document, say, visible_xml
from gradcli.report.markdown import bulleted, escaped, tabled
from gradcli.report.records import cell

WHOLE = "diff"
"""The test case of what no single tensor answers for."""


def _table(c: Contrast, d: Dress) -> str:
    return contrast_text(
        c,
        width=d.width,
        color=d.color,
        policy=d.policy,
        detail=d.detail,
        failures_only=d.failures_only,
    )


# ---- for programs --------------------------------------------------------------------------------


def contrast_json(
    found: Contrast, *, policy: Policy | None = None, command: str | None = None
) -> str:
    """Two models, held against each other, as one JSON object, raw and unrounded.

    Args:
        found: What was found.
        policy: What counts as a failure.
        command: The command line that asks the same again.
    """
    return dumps(
        {
            "schema_version": SCHEMA_VERSION,
            **asdict(found),
            "primal": [_fields(block) for block in found.primal],
            "derivative": [_fields(block) for block in found.derivative],
            "verdict": found.verdict,
            "exit_code": exit_code(found, policy or Policy()),
            "command": command,
        }
    )


def _fields(block: Block) -> dict[str, Any]:
    return {**asdict(block), "share": block.share}


def _records(c: Contrast, d: Dress) -> list[dict[str, Any]]:
    """One for each tensor, with what tells it from those of other contrasts."""
    asked = {
        "schema_version": SCHEMA_VERSION,
        "first_model": c.first,
        "second_model": c.second,
        "operator": c.operator,
        "contrast_verdict": c.verdict,
        "exit_code": exit_code(c, d.policy),
        "value_node": c.value.node if c.value else None,
        "cotangent_node": c.cotangent.node if c.cotangent else None,
    }
    what = [("output", block) for block in c.primal] + [(c.operator, b) for b in c.derivative]
    return [{**asked, "what": part, **_fields(block), "command": d.command} for part, block in what]


def _jsonl(c: Contrast, d: Dress) -> str:
    lines = (json.dumps(plain(record), allow_nan=False) for record in _records(c, d))
    return "".join(f"{line}\n" for line in lines)


CSV_COLUMNS = (
    *("first_model", "second_model", "operator", "contrast_verdict", "exit_code", "what", "of"),
    *("wrt", "shape", "same", "unclear", "size", "difference", "share", "excess", "uncertainty"),
    *("tolerance", "index", "first", "second", "cosine", "sign_changes", "top", "overlap"),
    *("unfit", "value_node", "cotangent_node"),
)
"""In this order, whatever the models."""


def _csv(c: Contrast, d: Dress) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(CSV_COLUMNS)
    for record in _records(c, d):
        listed = {name: " ".join(map(str, record[name])) for name in ("shape", "index")}
        writer.writerow([cell({**record, **listed}[name]) for name in CSV_COLUMNS])
    return file.getvalue()


# ---- for a CI ------------------------------------------------------------------------------------


def standing(found: Contrast, policy: Policy) -> Standing:
    """How the whole stands."""
    if found.verdict == "UNDECIDED":
        return policy.of_undecided(found.exit_code)
    return "passed" if found.verdict == "SAME" else "failed"


def _junit(c: Contrast, d: Dress) -> str:
    """One suite: a case a tensor, and one of the whole where nothing could be decided."""
    suite = ET.Element("testsuite", name=visible_xml(f"{c.second} against {c.first}"))
    properties = ET.SubElement(suite, "properties")
    asked = {"first": c.first, "second": c.second, "operator": c.operator, "verdict": c.verdict}
    for key, value in {**asked, "command": d.command or ""}.items():
        if value:
            ET.SubElement(properties, "property", name=key, value=visible_xml(value))
    place = (c.second, c.operator)
    for name, block in all_parts(c):
        decided: Standing = "failed" if not block.same and c.verdict == "DIFFER" else "undecided"
        how = "passed" if agrees(block) else decided
        say(case(suite, place, name, 0.0), how, "DIFFER", f"{name}{worst(block)}{_where(c)}")
    if (whole := standing(c, d.policy)) != "passed" and c.verdict == "UNDECIDED":
        say(case(suite, place, WHOLE, 0.0), whole, c.verdict, c.undecided)
    ET.SubElement(suite, "system-out").text = visible_xml(
        contrast_text(c, width=100, policy=d.policy)
    )
    return document([suite])


def _where(c: Contrast) -> str:
    """Where the models part, for a sentence that stands alone."""
    d = c.value or c.cotangent
    return "" if d is None else f"; {d.what}s part {next(parting(d))}"


def _github(c: Contrast, d: Dress) -> str:
    """An error a tensor that differs, all of the copy; the verdict comes last."""
    bad = [(name, b) for name, b in all_parts(c) if not b.same and c.verdict == "DIFFER"]
    found = [
        Annotation("error", "gradcli: DIFFER", f"{name}{worst(b)}{_where(c)}", c.second)
        for name, b in bad
    ]
    levels: dict[str, Level] = {"failed": "error", "undecided": "warning"}
    level = levels.get(standing(c, d.policy), "notice")
    said = headline(c, d.policy)
    last = Annotation(level, f"gradcli: {c.verdict}", f"{said.label}: {said.text}", c.second)
    return commands([*found, last])


def _markdown(c: Contrast, d: Dress) -> str:
    """A heading, a table of the tensors, and what is said of them."""
    said = told(c, policy=d.policy, detail=d.detail, failures_only=d.failures_only)
    blocks = [f"### {escaped(f'{said.headline.label}: {said.headline.text}')}"]
    if d.detail != "quiet":
        blocks += [bulleted(said.above), tabled(COLUMNS, said.rows), bulleted(said.below)]
    return "\n\n".join(filter(None, blocks)) + "\n"


CONTRAST_FORMATS: Mapping[str, Callable[[Contrast, Dress], str]] = MappingProxyType(
    {
        "table": _table,
        "json": lambda c, d: contrast_json(c, policy=d.policy, command=d.command),
        "jsonl": _jsonl,
        "csv": _csv,
        "markdown": _markdown,
        "junit": _junit,
        "github": _github,
    }
)
"""What makes each."""


def contrast_shown(found: Contrast, form: str, dress: Dress | None = None) -> str:
    """A contrast as text.

    Args:
        found: What was found.
        form: A name of CONTRAST_FORMATS.
        dress: How.
    """
    return CONTRAST_FORMATS[form](found, dress or Dress())
