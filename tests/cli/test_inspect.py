"""`gradcli inspect` and `gradcli ops`: as text at any width, as JSON, in a file, and refused."""

import json
import re
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from gradcli.ops import OPS
from gradcli.ops.control import CONTROL
from tests.cli.support import PHYSICS, SAMPLES, cli, process, refused, save_model
from tests.report.test_json import documented, fields

OPEN = ("model.opsets", "operators[].flat")


@pytest.mark.parametrize("name", sorted(p.stem for p in SAMPLES.glob("*.onnx")))
@pytest.mark.parametrize("width", ["80", "200"])
def test_every_sample_is_described_within_the_width(name, width):
    result = cli("inspect", str(SAMPLES / f"{name}.onnx"), COLUMNS=width)
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= int(width)
    for label in ("model", "inputs", "outputs", "operators", "derivative"):
        assert re.search(rf"^{label}\b", result.stdout, re.MULTILINE)


def test_json_has_the_documented_fields(tmp_path):
    path = save_model(
        tmp_path / "m.onnx",
        [helper.make_node("Floor", ["x"], ["y"], name="steps")],
        {"x": (TensorProto.FLOAT, [2])},
        {"y": (TensorProto.FLOAT, [2])},
    )
    found = json.loads(cli("inspect", str(path), "--format", "json").stdout)
    assert found["derivatives"][0]["ends"][0]["node"] == "steps"
    assert found["derivatives"][0]["zero"] == ["y"]
    known = documented("gradcli inspect")[0]
    assert {folded(f) for f in fields(found)} <= known
    full = json.loads(cli("inspect", PHYSICS, "--format", "json").stdout)
    seen = {folded(f) for content in (found, full) for f in fields(content)}
    assert known - seen <= {
        "overridable[]",
        "derivatives[].independent[]",
        "derivatives[].unknown[]",
    }


def folded(field: str) -> str:
    for name in OPEN:
        if field.startswith(f"{name}."):
            return f"{name}.*"
    return field


def test_a_file_gets_the_form_of_its_suffix(tmp_path):
    assert cli("inspect", PHYSICS, "-o", str(tmp_path / "i.json")).stdout == ""
    assert json.loads((tmp_path / "i.json").read_text())["nodes"] > 0
    cli("ops", "-o", str(tmp_path / "ops.md"))
    assert (tmp_path / "ops.md").read_text().startswith("# Operators")


def test_a_model_on_stdin():
    result = process("inspect", "-", stdin=Path(PHYSICS).read_bytes())
    assert result.returncode == 0
    assert b"<stdin>" in result.stdout


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("not a model")
    refused(cli("inspect", str(tmp_path / "text.onnx")), "text.onnx")
    refused(cli("inspect", str(tmp_path)), str(tmp_path))
    refused(cli("inspect", PHYSICS, "-o", str(tmp_path / "no" / "i.json")), "i.json")


def test_every_operator_is_listed():
    listed = json.loads(cli("ops", "--format", "json").stdout)["operators"]
    full = {o["op"] if o["domain"] == "ai.onnx" else f"{o['domain']}::{o['op']}" for o in listed}
    assert full == {*OPS, *CONTROL}
    assert {folded(f) for f in fields({"operators": listed, "schema_version": 1})} <= documented(
        "gradcli ops"
    )[0]
    text = cli("ops", COLUMNS="100").stdout
    assert f"{len(OPS) + len(CONTROL)} operators" in text
    assert max(map(len, text.splitlines())) <= 100
    page = cli("ops", "--format", "markdown").stdout
    assert sum(line.startswith("| ") for line in page.splitlines()) >= len(OPS)


def test_long_names_are_cut_in_the_middle_and_the_table_stays_a_table(tmp_path):
    names = {"x": "x" * 300, "y": f"{'y' * 150}Z{'y' * 150}", "node": "n" * 300}
    path = save_model(
        tmp_path / "long.onnx",
        [helper.make_node("Floor", [names["x"]], [names["y"]], name=names["node"])],
        {names["x"]: (TensorProto.FLOAT, [2])},
        {names["y"]: (TensorProto.FLOAT, [2])},
    )
    said = cli("inspect", path, COLUMNS="80").stdout
    assert "xxx…xxx" in said
    assert "yyy…yyy" in said
    assert not [name for name in names.values() if name in "".join(said.split())]
    assert len(said.splitlines()) < 25
    assert names["node"] in cli("inspect", path, "--format", "json").stdout
