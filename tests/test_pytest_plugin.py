"""The pytest plugin, in pytest runs of its own: the assertion, the models, what a start costs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from gradcli.pytest_plugin import assert_derivatives_agree
from tests.cli.support import PHYSICS, POINT, ROOT, cli

QUICK: dict[str, Any] = {"methods": ["reverse", "finite", "complex-step"], "runs": 1, "warmup": 0}
AT = {"x": [[0.25]], "t": [[0.5]]}

CONFIG = f"""
methods = ["reverse", "finite", "complex-step"]
runs = 1
warmup = 0

[[model]]
name = "good"
path = '{PHYSICS}'
inputs = '{POINT}'

[[model]]
name = "bad"
path = '{PHYSICS}'
inputs = '{POINT}'
rtol = 1e-13
"""


# ---- the assertion -------------------------------------------------------------------------------


def test_where_methods_agree_the_comparison_comes_back():
    assert str(assert_derivatives_agree(PHYSICS, AT, **QUICK).verdict) == "AGREE"
    assert str(assert_derivatives_agree(PHYSICS, POINT, **QUICK).verdict) == "AGREE"


def failure(*args, **how):
    with pytest.raises(AssertionError) as error:
        assert_derivatives_agree(*args, **{**QUICK, **how})
    return str(error.value)


def test_a_failure_says_the_headline_the_worst_element_and_how_to_ask_again(tmp_path):
    said = failure(PHYSICS, AT, rtol=1e-13, keep=tmp_path, wrt="x")
    assert said.startswith("the derivatives do not agree\n\nDISAGREE  reverse is off by ")
    assert "at x[0, 0]:" in said
    again = said.splitlines()[-1]
    assert f"--input {tmp_path}{os.sep}input.npz" in again
    assert "--wrt x" in again
    with np.load(tmp_path / "input.npz") as kept:
        assert {name: kept[name].tolist() for name in kept} == AT
    words = again.split()
    assert words[:2] == ["gradcli", "compare"]
    result = cli(*words[1:])
    assert result.exit_code == 1
    assert "DISAGREE  reverse is off by" in result.stdout


def test_without_a_folder_it_says_how_to_save_the_inputs():
    said = failure(PHYSICS, AT, rtol=1e-13, shapes={"x": [1, 1]}, operator="gradient")
    assert "numpy.savez('input.npz', **input)" in said
    assert "--input input.npz" in said
    assert "--shape x=1,1" in said
    assert "--method reverse --method finite" in said


def test_inputs_of_a_file_are_asked_again_from_that_file():
    again = failure(PHYSICS, POINT, rtol=1e-13).splitlines()[-1]
    assert f"--input {POINT}" in again
    assert "savez" not in again


def test_what_is_no_model_is_an_error_and_no_failure():
    from gradcli import GradcliError

    with pytest.raises(GradcliError):
        assert_derivatives_agree("nothing.onnx")


# ---- runs of pytest ------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    (tmp_path / "gradcli.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n", encoding="utf-8")
    return tmp_path


def run(folder: Path, *args: str, plugin: bool = True) -> tuple[int, str]:
    """pytest as a user starts it; where gradcli is not installed its entry point is named."""
    named = ["-p", "gradcli.pytest_plugin"] if plugin else []
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *named, *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    return result.returncode, result.stdout + result.stderr


def test_models_are_tests_where_that_is_asked(project):
    code, out = run(project, "--gradcli", "-v")
    assert code == 1
    assert "gradcli.toml::good PASSED" in out
    assert "gradcli.toml::bad FAILED" in out
    assert "test_one.py::test_one PASSED" in out
    assert "2 passed" in out
    assert "1 failed" in out
    assert "reverse is off by" in out
    assert "to ask the same again: gradcli check bad --config gradcli.toml" in out
    assert "Traceback" not in out


def test_without_it_there_are_none(project):
    code, out = run(project)
    assert (code, "1 passed" in out, "gradcli.toml" in out) == (0, True, False)


@pytest.mark.parametrize(
    ("args", "passed"),
    [
        (["-k", "good"], 1),
        (["-m", "gradcli", "-k", "not bad"], 1),
        (["gradcli.toml::good"], 1),
        (["test_one.py", "-k", "not bad"], 2),
        ([".", "gradcli.toml", "-k", "not bad"], 2),
    ],
)
def test_they_are_chosen_as_tests_are(project, args, passed):
    code, out = run(project, "--gradcli", *args)
    assert code == 0, out
    assert f"{passed} passed" in out


def test_they_are_in_the_xml_report(project):
    run(project, "--gradcli", "--junitxml", "report.xml")
    cases = {case.get("name"): case for case in ET.parse(project / "report.xml").iter("testcase")}
    assert set(cases) == {"good", "bad", "test_one"}
    assert cases["bad"].find("failure") is not None
    verdicts = [p.get("value") for p in cases["good"].iter("property")]
    assert verdicts == ["AGREE"]


def test_they_run_on_several_processes(project):
    pytest.importorskip("xdist")
    code, out = run(project, "--gradcli", "-n", "2", "-p", "xdist")
    assert code == 1
    assert "1 failed, 2 passed" in out


def test_a_baseline_is_held(project, monkeypatch):
    monkeypatch.chdir(project)
    assert cli("check", "good", "--save-baseline", "base.json").exit_code == 0
    baseline = ("--gradcli", "--gradcli-baseline", "base.json")
    assert run(project, *baseline, "-k", "good")[0] == 0
    code, out = run(project, *baseline, "-k", "bad")
    assert code == 1
    assert "the baseline has no model called bad" in out


def test_mistakes_of_a_configuration_are_told(project):
    (project / "gradcli.toml").write_text(CONFIG + "rtoll = 3\n", encoding="utf-8")
    code, out = run(project, "--gradcli")
    assert code == 2
    assert "there is no key 'rtoll'" in out
    assert "did you mean rtol" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "there is no gradcli.toml"),
        (["--collect-only"], "name one with --gradcli-config"),
        (["--gradcli-config", "."], "--gradcli-config .: there is no such file"),
        (["--gradcli-config", "no.toml"], "--gradcli-config no.toml: there is no such file"),
    ],
)
def test_without_a_configuration_nothing_is_collected(project, args, words):
    (project / "gradcli.toml").unlink()
    code, out = run(project, "--gradcli", *args)
    assert code == 4
    assert words in out
    assert "test_one" not in out


def test_pytest_s_help_needs_no_configuration(project):
    (project / "gradcli.toml").unlink()
    code, out = run(project, "--gradcli", "--help")
    assert code == 0
    assert "--gradcli-baseline=FILE" in out


def test_the_nearest_configuration_above_where_pytest_starts_is_taken(project):
    below = project / "below"
    below.mkdir()
    assert "gradcli.toml::good" in run(below, "--gradcli", "--collect-only", "-q")[1]
    (below / "gradcli.toml").write_text("[[model]]\npath = 'nearer.onnx'\n", encoding="utf-8")
    out = run(below, "--gradcli", "--collect-only", "-q")[1]
    assert "below/gradcli.toml::nearer" in out
    assert "good" not in out
    renamed = (below / "gradcli.toml").rename(below / "models.conf")
    out = run(project, "--gradcli", "--gradcli-config", str(renamed), "--collect-only", "-q")[1]
    assert "below/models.conf::nearer" in out


def test_names_are_harmless_and_can_be_asked_for(project):
    names = {"good": "a::b[1]", "bad": "\\u001b[31mred"}
    text = CONFIG
    for name, hostile in names.items():
        text = text.replace(f'"{name}"', f'"{hostile}"')
    (project / "gradcli.toml").write_text(text, encoding="utf-8")
    code, out = run(project, "--gradcli", "-v", "gradcli.toml::a:b[1]")
    assert code == 0, out
    assert "gradcli.toml::a:b[1] PASSED" in out
    out = run(project, "--gradcli", "--collect-only")[1]
    assert "\\x1b[31mred" in out
    assert "\x1b" not in out


def test_the_fixture_keeps_the_inputs(project):
    text = f"""
def test_fails(assert_derivatives_agree):
    assert_derivatives_agree({PHYSICS!r}, {AT!r}, **{QUICK!r}, rtol=1e-13)
"""
    (project / "test_one.py").write_text(text, encoding="utf-8")
    code, out = run(project)
    assert code == 1
    assert "AssertionError: the derivatives do not agree" in out
    assert "test_fails0" in out
    assert "pytest_plugin.py" not in out, "the trace ends in the test"


def test_a_start_of_pytest_does_not_pay_for_it(project):
    text = """
import sys

def test_one():
    loaded = {name.partition(".")[0] for name in sys.modules}
    assert not loaded & {"numpy", "onnx", "onnxruntime", "rich", "sympy", "click"}
    assert "gradcli.pytest_plugin" in sys.modules
"""
    (project / "test_one.py").write_text(text, encoding="utf-8")
    assert run(project)[0] == 0


def test_the_entry_point_names_the_plugin():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"gradcli": "gradcli.pytest_plugin"}
