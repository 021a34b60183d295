"""How commands start and end."""

import json
import os
import signal
import subprocess
import sys
from types import ModuleType
from unittest.mock import patch

import click
import pytest
from click.testing import CliRunner

from gradcli.cli import main, screen
from gradcli.cli.options import METHODS, Number, Shape, split_input
from gradcli.cli.shell import Command, Shell, status
from gradcli.engines import ENGINES
from gradcli.errors import CannotError, InputError, InternalError, UsageError
from tests.cli.support import PHYSICS, POINT, ROOT, cli, process, refused


def ending(error):
    """A command line whose only command ends in this exception."""

    @click.command()
    def command():
        raise error

    module = ModuleType("gradcli.cli.end")
    module.command = command  # type: ignore[attr-defined] # made here
    with patch.dict(sys.modules, {module.__name__: module}):
        shell = Shell(name="gradcli", commands_by_name={"end": Command(module.__name__, "Ends.")})
        return CliRunner().invoke(shell, ["end"])


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UsageError("wrong here", "do that"), 2, ["error: wrong here", "hint: do that"]),
        (CannotError("out of depth"), 3, ["error: out of depth"]),
        (click.FileError("x", "gone"), 2, ["gone"]),
        (MemoryError(), 2, ["memory"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
        (ZeroDivisionError("by zero"), 70, ["ZeroDivisionError: by zero", "bug in gradcli"]),
        (InternalError("broken"), 70, ["broken", "bug in gradcli", "GRADCLI_TRACEBACK"]),
        (AssertionError(), 70, ["AssertionError", "test_shell.py"]),
    ],
)
def test_every_end_has_its_exit_code_and_one_screen(error, code, words):
    refused(ending(error), *words, code=code)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's here")
def test_what_a_module_makes_of_an_interruption_is_one_all_the_same(capsys):
    def run() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    before = signal.getsignal(signal.SIGINT)
    assert status(run) == 130
    assert capsys.readouterr().err == "gradcli: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_nothing_slow_loads_before_an_interruption_is_quiet():
    code = "import gradcli.__main__, sys; print(*({'enum', 'signal', 'typing'} & {*sys.modules}))"
    seen = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, timeout=60, check=True
    )
    assert seen.stdout.split() == []


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's here")
@pytest.mark.parametrize("module", ["gradcli.cli", "click", "numpy", "onnxruntime", "rich"])
def test_an_interruption_while_a_module_loads_ends_quietly(module):
    """At the very moment that a module is first looked for, in a process of its own."""
    code = f"""
import signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupting())
sys.argv = ["gradcli", "compare", {PHYSICS!r}, "--input", {POINT!r}]
from gradcli.__main__ import main
main()
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr.strip()) == (130, b"gradcli: interrupted")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([PHYSICS], ["a command goes before", f"gradcli compare {PHYSICS}", "gradcli grad "]),
        (["no model.onnx", "-v"], ["gradcli compare 'no model.onnx' -v"]),
        (["compar"], ["did you mean compare?"]),
        (["frobnicate"], ["there are: compare, grad"]),
    ],
)
def test_who_names_no_command_is_told_what_to_type(args, words):
    refused(cli(*args), *words)


def test_a_closed_pipe_is_silent():
    result = ending(BrokenPipeError())
    assert (result.exit_code, result.output) == (0, "")


def test_a_traceback_is_shown_on_request(monkeypatch):
    monkeypatch.setenv("GRADCLI_TRACEBACK", "1")
    result = ending(ZeroDivisionError("by zero"))
    assert result.exit_code == 70
    assert "Traceback" in result.stderr


def test_a_message_cannot_reach_the_terminal_s_controls_nor_fill_more_than_a_screen():
    text = refused(ending(UsageError(f"\x1b]0;owned\x07 \u202e {'long ' * 5000} end", "the hint")))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "\\x1b]0;owned\\x07" in text
    assert len(text) < 2500
    assert text.endswith("end\nhint: the hint\n")


def test_help_names_every_command_and_imports_none():
    result = cli("--help")
    assert result.exit_code == 0
    for name in ("compare", "grad", "sample"):
        assert f"  {name}" in result.stdout


@pytest.mark.parametrize("name", ["compare", "grad", "sample"])
def test_a_command_s_line_in_the_help_is_its_own(name):
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command is not None
    assert command.short_help == main._lazy[name].summary
    result = cli(name, "--help")
    assert result.exit_code == 0
    assert result.stdout.isascii()


def test_the_methods_that_the_help_names_are_the_engines():
    assert set(METHODS) == set(ENGINES)


def test_help_of_a_command_loads_nothing_heavy():
    code = (
        "import sys; from gradcli.cli import main\n"
        "try: main(['compare', '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = ['numpy', 'onnx', 'onnxruntime', 'scipy', 'sympy', 'flint', 'rich']\n"
        "print('loaded:', *[m for m in heavy if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.stdout.splitlines()[-1] == "loaded:", result.stderr


# ---- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=x.npy", ("a", "x.npy")),
        ("a=b=x.npy", ("a=b", "x.npy")),
        ("a=c=x.npy", ("a", "c=x.npy")),
        ("a=-", ("a", "-")),
        ("x.npz", ("", "x.npz")),
        ("-", ("", "-")),
    ],
)
def test_an_input_is_split_after_the_longest_matching_name(text, expected):
    assert split_input(text, dict.fromkeys(["a", "a=b", "b"])) == expected


def test_a_file_whose_name_holds_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run=3.npz").touch()
    assert split_input("run=3.npz", {"x": None}) == ("", "run=3.npz")
    with pytest.raises(InputError, match="no input called 'run'"):
        split_input("run=4.npz", {"x": None})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("x=1,15,64", ("x", (1, 15, 64))), ("a=b=2", ("a=b", (2,))), ("x=", ("x", ()))],
)
def test_a_shape(text, expected):
    assert Shape().convert(text, None, None) == expected


@pytest.mark.parametrize("text", ["x", "=1", "x=1,-2", "x=a", "x=1.5"])
def test_what_is_no_shape(text):
    with pytest.raises(click.UsageError):
        Shape().convert(text, None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "one", "0"])
def test_what_is_no_number_above_zero(text):
    with pytest.raises(click.UsageError):
        Number(0, above=True).convert(text, None, None)


# ---- screens -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_colour(monkeypatch, env, terminal, expected):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(screen, "is_terminal", lambda: terminal)
    assert screen.colored() is expected


def test_no_name_is_a_command_in_a_log_of_github(monkeypatch):
    text = "input\n  ::error::owned\n::x\na::b ##[error] c\n"
    assert screen.inert(text) == text
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert screen.inert(text) == (
        "input\n  \\u003a:error::owned\n\\u003a:x\na::b \\u0023#[error] c\n"
    )
    assert json.loads(screen.inert(json.dumps(["##[x"]))) == ["##[x"]


def test_columns_decide_the_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "123")
    assert screen.width() == 123


def test_version_as_a_process():
    result = process("--version")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.startswith(b"gradcli")


@pytest.mark.skipif(os.name == "nt", reason="closing the reading end is POSIX's way here")
@pytest.mark.parametrize(
    "args", [["--help"], ["compare", PHYSICS, "-i", POINT, "--method", "reverse"], ["sample"]]
)
def test_a_reader_that_leaves_is_no_error(args):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        result = subprocess.run(
            [sys.executable, "-m", "gradcli", *args],
            cwd=ROOT,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,
        )
    assert (result.returncode, result.stderr) == (0, b"")
