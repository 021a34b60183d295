import platform
import sys
from dataclasses import fields

import numpy as np
import onnxruntime
import pytest

import gradcli
from gradcli.engines.base import Environment
from gradcli.measure import environment as measured


def test_the_environment_is_that_of_this_process():
    measured.environment.cache_clear()
    found = measured.environment()
    assert found.gradcli == gradcli.__version__
    assert found.python == f"{platform.python_implementation()} {platform.python_version()}"
    assert (found.numpy, found.onnxruntime) == (np.__version__, onnxruntime.__version__)
    assert found.onnx
    assert found.system
    assert found.machine
    assert found.cpu
    assert found.cores >= 1
    assert {f.name for f in fields(found)} == set(vars(found))


def test_a_library_that_is_not_there_has_no_version():
    assert measured.version("no_such_module", "no-such-distribution") is None


def test_a_library_that_is_not_loaded_has_that_of_its_distribution(monkeypatch):
    monkeypatch.delitem(sys.modules, "numpy")
    assert measured.version("numpy") == np.__version__


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: A  CPU (R) @ 2 GHz\nmodel name\t: B\n",
            "A CPU (R) @ 2 GHz",
        ),
        ("model name\t: A\x1b[31m\u202e CPU\n", "A [31m CPU"),
        (f"model name\t: {'x' * 1000}\n", "x" * measured.LONGEST),
    ],
)
def test_a_processor_s_name_is_short_and_printable(tmp_path, monkeypatch, text, name):
    monkeypatch.setattr(measured, "CPUINFO", tmp_path / "cpuinfo")
    measured.CPUINFO.write_text(text, encoding="utf-8")
    assert measured.cpu() == name


def test_a_system_that_lists_no_processors_says_what_it_can(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert measured.cpu() == "arm64"


def test_of_what_was_made_by_hand_nothing_is_claimed():
    assert set(vars(Environment()).values()) == {"", None, 0}
