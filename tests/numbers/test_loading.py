"""Importing the number systems loads no foreign library but NumPy."""

import subprocess
import sys

import pytest

from gradcli.errors import MissingExtraError
from gradcli.numbers import Ball


def test_foreign_libraries_are_loaded_when_first_used():
    code = (
        "import sys, gradcli.numbers as numbers\n"
        "foreign = {'scipy', 'flint', 'sympy', 'mpmath'}\n"
        "assert not foreign & sys.modules.keys(), foreign & sys.modules.keys()\n"
        "numbers.Ball()\n"
        "assert foreign & sys.modules.keys() == {'flint'}\n"
        "numbers.Symbol()\n"
        "numbers.real.erf(numbers.real.zero)\n"
        "assert foreign <= sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_ball_without_flint_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(MissingExtraError) as caught:
        Ball()
    assert caught.value.hint == 'pip install "gradcli[certified]"'
