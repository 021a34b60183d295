"""`gradcli check`: models of a configuration, one line each, in every format."""

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.cli.projects import CONFIG, made, rewritten
from tests.cli.support import cli, process, refused
from tests.installed import needs_html


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # What is tested here is what is done with costs: a fiftieth of a second of each is enough.
    monkeypatch.setattr("gradcli.checks.baseline.LONGEST", 0.02)
    return made(tmp_path)


def strict():
    """A configuration of which the first model fails: no float32 method is that accurate."""
    rewritten("gradcli.toml", CONFIG.replace('physics.npz"', 'physics.npz"\nrtol = 1e-13'))


# ---- reports -------------------------------------------------------------------------------------


def test_a_line_a_model_and_a_summary():
    result = cli("check", COLUMNS="100")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("AGREE  physics  3 methods agree with")
    assert [line for line in lines if line.startswith("KINK   kinked ")]
    assert "2 models in" in result.stdout
    assert "1 agree, 1 at a kink (exit 0)" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_no_line_is_longer_than_the_screen(columns):
    strict()
    result = cli("check", COLUMNS=columns)
    assert result.exit_code == 1
    assert max(map(len, result.stdout.splitlines())) <= int(columns)


def test_a_failure_is_told_in_full_and_the_gravest_code_is_that_of_all():
    strict()
    result = cli("check")
    assert result.exit_code == 1
    assert "DISAGREE" in result.stdout.splitlines()[0]
    assert "max rel" in result.stdout
    assert "FAILED" in result.stdout
    assert cli("check", "kinked").exit_code == 0
    assert cli("check", "--exit-zero").exit_code == 0


def test_failures_only_quiet_verbose():
    strict()
    assert "kinked" not in cli("check", "--failures-only").stdout
    assert cli("check", "-q").stdout.startswith("FAILED  2 models in")
    assert "kinked.onnx" in cli("check", "-v").stdout


def test_exit_first_stops_and_says_what_was_not_reached():
    strict()
    result = cli("check", "-x")
    assert result.exit_code == 1
    assert "not reached: kinked" in " ".join(result.stdout.split())


def test_a_model_in_error_is_a_row_and_others_go_on():
    Path("physics.onnx").write_bytes(b"nothing")
    result = cli("check")
    assert result.exit_code == 2
    assert "ERROR" in result.stdout
    assert "KINK" in result.stdout
    assert "hint" in result.stdout


def test_json_has_every_comparison():
    strict()
    result = cli("check", "--format", "json")
    content = json.loads(result.stdout)
    assert content["exit_code"] == result.exit_code == 1
    assert [m["name"] for m in content["models"]] == ["physics", "kinked"]
    assert [m["exit_code"] for m in content["models"]] == [1, 0]
    assert content["models"][0]["comparison"]["verdict"] == "DISAGREE"
    assert content["config"].endswith("gradcli.toml")
    assert content["findings"] == 0
    assert content["command"] == "gradcli check --format json"


def test_junit_has_a_suite_a_model():
    strict()
    Path("kinked.onnx").unlink()
    tree = ET.fromstring(cli("check", "--format", "junit").stdout)
    suites = tree.findall("testsuite")
    assert [s.get("name") for s in suites] == ["physics", "kinked"]
    assert [s.get("tests") for s in suites] == ["3", "1"]
    assert int(suites[0].get("failures", "")) >= 1
    assert [s.get("errors") for s in suites] == ["0", "1"]
    assert tree.get("tests") == "4"


def test_github_annotates_what_fails_and_sums_up():
    strict()
    Path("kinked.onnx").unlink()
    lines = cli("check", "--format", "github").stdout.splitlines()
    assert any(line.startswith("::error file=physics.onnx") for line in lines)
    assert any(line.startswith("::error file=kinked.onnx") for line in lines)
    (last,) = [line for line in lines if "title=gradcli%3A FAILED" in line]
    assert "2 models in" in last


def test_lines_and_rows_of_every_model_come_one_after_the_other():
    exported = ("--export", "m.csv", "--export", "m.jsonl", "--export", "m.md")
    assert cli("check", *exported).exit_code == 0
    rows = list(csv.DictReader(io.StringIO(Path("m.csv").read_bytes().decode())))
    lines = [json.loads(line) for line in Path("m.jsonl").read_text().splitlines()]
    paths = ["physics.onnx"] * 3 + ["kinked.onnx"] * 3
    assert [row["path"] for row in rows] == [line["model"]["path"] for line in lines] == paths
    assert "| AGREE | physics |" in Path("m.md").read_text(encoding="utf-8")


def test_the_project_is_found_from_below_and_named_from_anywhere(project, monkeypatch):
    (project / "deep").mkdir()
    monkeypatch.chdir(project / "deep")
    assert cli("check", "physics").exit_code == 0
    monkeypatch.chdir("/")
    assert cli("check", "physics", "--config", str(project / "gradcli.toml")).exit_code == 0


def test_what_cannot_be_is_refused():
    refused(cli("check", "physic"), "'physic'", "did you mean physics?")
    refused(cli("check", "--config", "other.toml"), "other.toml", "no such file")
    rewritten("gradcli.toml", CONFIG + "rtoll = 3\n")
    refused(cli("check"), "gradcli.toml", "[[model]] 2 (kinked.onnx)", "'rtoll'", "rtol")


def test_nothing_of_a_pipe_is_coloured_and_names_are_harmless():
    rewritten("gradcli.toml", CONFIG.replace("[[model]]", '[[model]]\nname = "\\u001b[31m[b]"', 1))
    result = process("check", cwd=Path.cwd())
    assert result.returncode == 0
    assert b"\x1b" not in result.stdout + result.stderr
    assert b"\\x1b[31m[b]" in result.stdout


@needs_html
def test_html_is_one_page_of_all_models_that_needs_nothing_else():
    hostile = "<script>alert(1)</script>"
    text = CONFIG.replace('physics.npz"', 'physics.npz"\nrtol = 1e-13')
    rewritten(
        "gradcli.toml", text.replace('path = "kinked.onnx"', f'name = "{hostile}"\npath = "k"')
    )
    assert cli("check", "--export", "html=r.html").exit_code == 2
    page = Path("r.html").read_text(encoding="utf-8")
    assert page.endswith("</html>\n")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "default-src &#39;none&#39;" in page
    for said in ("DISAGREE", "ERROR", "FAILED", "k: there is no such file", "max rel"):
        assert said in page, said
    assert page.index('id="model-1">physics') < page.index('id="model-2">&lt;script')
    assert cli("check", "-o", "o.html").exit_code == 2
    assert "gradcli check -o o.html" in Path("o.html").read_text(encoding="utf-8")


def test_long_names_are_cut_in_the_middle_unless_all_is_asked_for():
    names = [f"model{'-' * 300}{k}" for k in "ab"]
    text = CONFIG
    for name in names:
        text = text.replace("[[model]]\n", f'[[model]] \nname = "{name}"\n', 1)
    rewritten("gradcli.toml", text.replace('physics.npz"', 'physics.npz"\nrtol = 1e-13'))
    result = cli("check", "-x")
    said = "".join(result.stdout.split())
    assert result.exit_code == 1
    assert not [name for name in names if name in said]
    assert f"notreached:model{'-' * 23}…{'-' * 26}b(exit1)" in said
    assert len(result.stdout.splitlines()) < 60
    assert names[0] in "".join(cli("check", "-x", "-v").stdout.split())
    assert [
        m["name"] for m in json.loads(cli("check", "--format", "json").stdout)["models"]
    ] == names
