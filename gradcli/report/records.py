"""One record a method, for programs that read lines: JSON Lines and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

from gradcli.comparison import Comparison, Judgement, Verdict, at_points
from gradcli.report.encoding import visible
from gradcli.report.jsonform import SCHEMA_VERSION, method_fields, plain

FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
"""What makes a spreadsheet take a cell's text for a formula; so do tabs, which are escapes here."""

TIMES = ("mean", "stddev", "median", "min", "max")


def jsonl(comparison: Comparison, *, command: str | None = None) -> str:
    """One JSON object a line and method, of several points at each.

    It has the method's numbers, and all that tells it from other ones.
    """
    lines = (
        {
            **_asked(at.comparison),
            "point": at.label or None,
            **method_fields(judgement),
            "environment": vars(at.comparison.environment),
            "command": command,
        }
        for at in at_points(comparison)
        for judgement in at.comparison.methods
    )
    return "".join(f"{json.dumps(plain(line), allow_nan=False)}\n" for line in lines)


def _asked(c: Comparison) -> dict[str, Any]:
    """What was asked, and what came of the whole."""
    s = c.subject
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {"path": s.path, "sha256": s.sha256},
        "operator": s.operator,
        "wrt": list(s.wrt),
        "of": list(s.of),
        "seed": s.seed,
        "threads": s.threads,
        "provider": s.provider,
        "primal_matches": c.primal.matches,
        "reference": c.reference.kind,
        "comparison_verdict": str(c.verdict),
        "exit_code": c.exit_code,
        "unfinished": list(c.unfinished),
    }


def as_csv(comparison: Comparison) -> str:
    """A heading and a row a method, of several points at each.

    In the form of RFC 4180: commas, CRLF, quotes doubled.
    Text that a spreadsheet would take for a formula gets an apostrophe in front. Numbers are raw,
    in seconds; what is not known is empty.
    """
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(CSV_COLUMNS)
    for at in at_points(comparison):
        for judgement in at.comparison.methods:
            cells = {**record(at.comparison, judgement), "point": at.label}
            writer.writerow([cell(cells[name]) for name in CSV_COLUMNS])
    return file.getvalue()


def record(comparison: Comparison, judgement: Judgement) -> Mapping[str, Any]:
    """One method in one level, by the names of the columns."""
    asked, own = _asked(comparison), method_fields(judgement)
    run, worst = own["run"] or {}, own["worst"] or {}
    return {
        **asked,
        **own,
        **asked["model"],
        "wrt": " ".join(asked["wrt"]),
        "of": " ".join(asked["of"]),
        "unfinished": " ".join(asked["unfinished"]),
        **{name: run.get(name) for name in TIMES},
        "runs": len(run.get("times", ())),
        "worst_name": worst.get("name"),
        "worst_index": " ".join(map(str, worst.get("index", ()))),
        "worst_value": worst.get("value"),
        "worst_reference": worst.get("reference"),
        "worst_node": worst.get("node"),
        **{str(verdict): own["counts"].get(str(verdict), 0) for verdict in Verdict},
        "notes": " | ".join(own["notes"]),
        **{name: getattr(comparison.environment, name) for name in _MACHINE},
    }


_MACHINE = ("gradcli", "onnxruntime", "cpu")

CSV_COLUMNS = (
    *("path", "sha256", "operator", "wrt", "of", "reference", "comparison_verdict", "exit_code"),
    *("unfinished", "method", "status", "verdict", "cause", "detail", "reason", "level", "dtype"),
    *("correct_digits", "max_abs_error", "max_rel_error", "uncertainty", "rtol", "needed_rtol"),
    *("worst_name", "worst_index", "worst_value", "worst_reference", "worst_node"),
    *(*map(str, Verdict), "zero", "evaluations", "sampled", "prepare", *TIMES, "runs"),
    *("times_forward", "notes", "seed", "threads", "provider", *_MACHINE, "point"),
)
"""In this order, whatever the model."""


def cell(x: Any) -> str:
    """A number raw, text made safe, nothing of what is not known."""
    if x is None:
        return ""
    if isinstance(x, str):
        return _harmless(visible(x))
    if isinstance(x, bool):
        return "true" if x else "false"
    number = plain(x)
    return number if isinstance(number, str) else repr(number)


def _harmless(text: str) -> str:
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text
