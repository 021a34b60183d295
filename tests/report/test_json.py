import json
import re
from pathlib import Path

import numpy as np
import pytest

from gradcli.report import comparison_json, derivative_json
from tests.report import examples

DOCS = Path(__file__).resolve().parents[2] / "docs" / "json.md"

# Objects whose names are data, not fields.
OPEN = (
    *("problem.rtol", "methods[].counts", "methods[].parts[].counts"),
    *("advice[].evidence", "counts"),
    *("explanation.errors", "explanation.explained"),
    *(f"explanation.nodes[].{field}" for field in ("errors", "exact", "shares")),
)
TIMES = ("primal.forward", "methods[].run")


def documented(section):
    text = DOCS.read_text(encoding="utf-8").split(f"## `{section}`")[1].split("\n## ")[0]
    fields = re.findall(r"^\| `(\S+)` \|", text, re.MULTILINE)
    times = {"median", "mean", "stddev", "min", "max", "times[]"}
    return set(fields) - times, set(fields) & times


def fields(x, at=""):
    """Every path to a value, with lists and open objects folded."""
    if isinstance(x, dict) and at not in TIMES:
        for key, item in x.items():
            here = f"{at}.*" if at in OPEN else f"{at}.{key}".lstrip(".")
            yield from fields(item, here)
    elif isinstance(x, list):
        for item in x:
            yield from fields(item, f"{at}[]")
    else:
        yield at


def test_every_field_of_a_comparison_is_documented_and_every_documented_field_is_there():
    written = set()
    for comparison in (
        examples.smooth(),
        examples.odd(),
        examples.certified(),
        examples.blamed(),
        examples.swept(),
        examples.pointed(),
    ):
        written |= set(fields(json.loads(comparison_json(comparison))))
    documents, times = documented("gradcli compare")
    assert written == documents
    forward = json.loads(comparison_json(examples.smooth()))["primal"]["forward"]
    assert {k if k != "times" else "times[]" for k in forward} == times


def test_every_field_of_a_derivative_is_documented_and_every_documented_field_is_there():
    content = json.loads(a_derivative())
    for block in content["derivative"]:
        block["values"] = None
    assert set(fields(content)) == documented("gradcli grad")[0]


def a_derivative():
    return derivative_json(
        path="m.onnx",
        sha256="00",
        operator="jacobian",
        method="reverse",
        dtype="float64",
        blocks={
            ("a/b", "c"): np.array([[1.5, np.nan], [np.inf, -np.inf]]),
            ("a", "b/c"): np.ones(1),
        },
        notes=["odd"],
    )


def test_blocks_of_a_derivative_keep_their_names_apart():
    first, second = json.loads(a_derivative())["derivative"]
    assert (first["of"], first["wrt"], first["shape"]) == ("a/b", "c", [2, 2])
    assert (second["of"], second["wrt"], second["values"]) == ("a", "b/c", [1.0])
    assert first["values"] == [[1.5, "NaN"], ["Infinity", "-Infinity"]]


def test_numbers_are_raw_and_those_that_are_not_finite_are_strings():
    content = json.loads(comparison_json(examples.odd()), parse_constant=pytest.fail)
    method = content["methods"][1]
    assert method["max_abs_error"] == "Infinity"
    assert method["uncertainty"] == "NaN"
    assert method["worst"] == {
        "name": "image",
        "index": [],
        "value": "NaN",
        "reference": "-Infinity",
        "node": "",
        "sides": None,
    }
    run = json.loads(comparison_json(examples.smooth()))["methods"][0]["run"]
    assert run["times"] == [1.83e-5, 1.83e-5 * 1.5, 1.83e-5 * 0.5]
    assert (run["median"], run["min"], run["max"]) == (1.83e-5, 1.83e-5 / 2, 1.83e-5 * 1.5)


def test_the_json_is_ascii_and_says_how_the_process_ends():
    text = comparison_json(examples.odd())
    assert text.isascii()
    content = json.loads(text)
    assert (content["verdict"], content["exit_code"]) == ("DISAGREE", 1)
    assert content["model"]["path"] == "models/[bold]красный[/bold].onnx"


def test_a_comparison_s_json(snapshot):
    assert comparison_json(examples.odd()) == snapshot
