"""What `--help` shows runs as it stands, and fits a screen; what Tab completes is there."""

import re
import shlex
import shutil
import subprocess

import numpy as np
import pytest
from onnx import TensorProto, helper

from gradcli.cli import main
from tests.cli.support import PHYSICS, cli, process, save_model

NAMES = main.list_commands(main.make_context("gradcli", ["ops"], resilient_parsing=True))


def examples(name):
    shown = cli(name, "--help", COLUMNS="80").stdout
    block = re.search(r"^  Examples:\n((?:    .+\n)+)", shown, re.MULTILINE)
    return [line.strip() for line in block[1].splitlines()] if block else []


@pytest.mark.parametrize("name", NAMES)
def test_help_has_examples_and_fits_a_screen(name):
    shown = cli(name, "--help", COLUMNS="80").stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert examples(name)
    assert all("gradcli" in line for line in examples(name))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the files that examples name."""
    monkeypatch.chdir(tmp_path)
    sizes: list[int | str] = [1, 4]
    shape = (int(TensorProto.FLOAT), sizes)
    nodes = [helper.make_node("Tanh", ["x"], ["y"], name="act")]
    save_model(tmp_path / "model.onnx", nodes, {"x": shape}, {"y": shape})
    shutil.copy(tmp_path / "model.onnx", tmp_path / "optimised.onnx")
    np.save(tmp_path / "x.npy", np.array([[0.25, -0.5, 1.0, 2.0]], np.float32))
    config = '[[model]]\npath = "model.onnx"\ninputs = "x.npy"\n'
    (tmp_path / "gradcli.toml").write_text(config, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "line"),
    [(name, line) for name in NAMES for line in examples(name) if line.startswith("gradcli ")],
)
def test_every_example_of_the_help_runs(name, line, here):
    program, *words = shlex.split(line.partition(" | ")[0], comments=True)
    assert (program, words[0]) == ("gradcli", name)
    result = cli(*words)
    assert result.exit_code == 0, result.output
    if "-o" in words:
        assert (here / words[words.index("-o") + 1]).exists()


# ---- completion ----------------------------------------------------------------------------------


def completed(*words):
    """What bash would offer for the last of these words."""
    result = process(
        _GRADCLI_COMPLETE="bash_complete",
        COMP_WORDS=shlex.join(("gradcli", *words[:-1])) + " " + words[-1],
        COMP_CWORD=str(len(words)),
    )
    assert result.stderr == b""
    lines = result.stdout.decode().splitlines()
    return [line.partition(",")[2] for line in lines if line]


def test_commands_and_options_are_completed():
    assert completed("comp") == ["compare", "completion"]
    assert completed("compare", "--at") == ["--atol", "--at-kink"]
    assert completed("compare", "--at-kink", "s") == ["skip"]


def test_methods_are_completed():
    assert completed("compare", PHYSICS, "--method", "finite-") == [
        *("finite-forward", "finite-central")
    ]


def test_names_of_tensors_are_completed_from_the_file():
    assert completed("compare", PHYSICS, "--wrt", "x") == ["x"]
    assert "u" in completed("grad", PHYSICS, "--of", "")
    assert completed("compare", PHYSICS, "--input", "t") == ["t=", "t"]  # the latter as a file


@pytest.mark.parametrize("model", ["nowhere.onnx", __file__, "-"])
def test_a_model_that_cannot_be_read_completes_nothing(model):
    assert completed("compare", model, "--wrt", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_s_script_names_the_variable(shell):
    text = cli("completion", shell).stdout
    assert "_GRADCLI_COMPLETE" in text
    assert f"{shell}_complete" in text


def test_bash_takes_its_script():
    script = cli("completion", "bash").stdout
    try:
        result = subprocess.run(
            ["bash", "--norc", "-c", f"{script}\ncomplete -p gradcli"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.skip("there is no bash here")
    assert result.stderr == ""
    assert re.search(r"complete .*-F _gradcli_completion gradcli", result.stdout)
