"""The shipped JSON Schemas are what docs/json.md says, and what reports are."""

import copy
import json

import numpy as np
import pytest

from gradcli.cli.schema import SCHEMAS
from gradcli.report import comparison_json, contrast_json, derivative_json
from gradcli.report.records import jsonl
from tests.cli.support import PHYSICS, POINT, QUICK, cli, process
from tests.report import contrasts, examples, schemas

EXAMPLES = [
    *(examples.smooth, examples.odd, examples.certified),
    *(examples.blamed, examples.swept),
]


def shipped(name):
    return json.loads((schemas.PLACE / f"{name}.json").read_text(encoding="utf-8"))


def validator(name):
    jsonschema = pytest.importorskip("jsonschema")
    schema = shipped(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def instances():
    """Reports by the name of their schema."""
    for make in EXAMPLES:
        yield "compare", json.loads(comparison_json(make()))
        yield "compare", json.loads(comparison_json(make(), command="gradcli compare m"))
        for line in jsonl(make()).splitlines():
            yield "jsonl", json.loads(line)
    blocks = {("y", "x"): np.array([[1.0, np.nan]]), ("", "x"): np.ones(())}
    for method, note in (("reverse", []), ("finite", ["odd"])):
        text = derivative_json(
            path="m",
            sha256="0",
            operator="jvp",
            method=method,
            dtype="float64",
            blocks=blocks,
            notes=note,
        )
        yield "grad", json.loads(text)
    for contrast in (contrasts.differ(), contrasts.same(), contrasts.coarse()):
        yield "diff", json.loads(contrast_json(contrast, command="gradcli diff a b"))
        yield "diff", json.loads(contrast_json(contrast))


@pytest.mark.parametrize("name", schemas.SECTIONS)
def test_a_schema_is_what_the_documentation_says(name):
    # If this fails: python -m tests.report.schemas
    path = schemas.PLACE / f"{name}.json"
    assert path.read_text(encoding="utf-8") == schemas.text(name)


def nodes(schema):
    """Every subschema that is a field, with its name."""
    for name, field in schema.get("properties", {}).items():
        yield name, field
        yield from nodes(field)
    for branch in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())):
        yield from nodes(branch)


@pytest.mark.parametrize("name", schemas.SECTIONS)
def test_every_value_is_described_and_new_fields_are_allowed(name):
    schema = shipped(name)
    assert '"additionalProperties": false' not in json.dumps(schema)
    fields = list(nodes(schema))
    assert len(fields) > len(schema["properties"])
    for field, content in fields:
        inside = content
        while "items" in inside:
            inside = inside["items"]
        opened = inside.get("additionalProperties", inside)
        held = {"properties", "items"} & {key for b in opened.get("anyOf", [opened]) for key in b}
        assert held or "description" in opened, field


def test_every_report_is_valid():
    seen = set()
    for name, instance in instances():
        validator(name).validate(instance)
        seen.add(name)
    assert seen == set(schemas.SECTIONS) == set(SCHEMAS)


def test_a_report_of_later_days_with_more_fields_is_valid():
    for name, instance in instances():
        later = copy.deepcopy(instance)
        later["new"] = 1
        if "model" in later:
            later["model"]["new"] = None
        validator(name).validate(later)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("compare", {"schema_version": 2}),
        ("compare", {"verdict": "MAYBE"}),
        ("compare", {"methods": [{}]}),
        ("compare", {"counts": {"AGREE": "many"}}),
        ("compare", {"exit_code": 1.5}),
        ("jsonl", {"max_rel_error": "large"}),
        ("jsonl", {"run": {"times": []}}),
        ("grad", {"derivative": [{"values": {}}]}),
        ("diff", {"verdict": "AGREE"}),
        ("diff", {"primal": [{}]}),
        ("diff", {"derivative": [{"cosine": "none"}]}),
        ("diff", {"value": {"node": "n"}}),
    ],
)
def test_what_is_no_report_is_not_valid(name, change):
    check = validator(name)
    whole = next(instance for kind, instance in instances() if kind == name)
    assert check.is_valid(whole)
    assert not check.is_valid({**whole, **change})
    for field in whole:
        assert not check.is_valid({k: v for k, v in whole.items() if k != field}), field


def test_what_the_commands_write_is_valid(tmp_path):
    out = tmp_path / "r.jsonl"
    report = cli("compare", PHYSICS, "-i", POINT, *QUICK, "--format", "json", "--export", str(out))
    validator("compare").validate(json.loads(report.stdout))
    for line in out.read_text().splitlines():
        validator("jsonl").validate(json.loads(line))
    grad = cli("grad", PHYSICS, "-i", POINT, "--format", "json")
    validator("grad").validate(json.loads(grad.stdout))
    diff = cli("diff", PHYSICS, PHYSICS, "-i", POINT, "--format", "json")
    validator("diff").validate(json.loads(diff.stdout))


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_command_prints_them(name):
    result = cli("schema", name)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == shipped(name)


def test_an_unknown_one_is_refused_and_a_file_written(tmp_path):
    assert cli("schema", "other").exit_code == 2
    result = process("schema", "grad", "-o", str(tmp_path / "s.json"))
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert json.loads((tmp_path / "s.json").read_text()) == shipped("grad")
