"""The formula of a network and of its derivatives, to be read or compiled."""

from __future__ import annotations

from typing import Literal, get_args

from gradcli.errors import CannotError, UsageError
from gradcli.formulas.closed import constants
from gradcli.formulas.pages import expanded, matrices
from gradcli.formulas.programs import program
from gradcli.problem import Problem

Language = Literal["text", "latex", "python", "c", "julia"]
Form = Literal["auto", "expanded", "matrix"]

MOST_TO_READ = 64
"""Parameters of a network of which every number is written for people, unless asked otherwise."""

__all__ = ["MOST_TO_READ", "Form", "Language", "formula"]


def formula(
    problem: Problem, lang: Language = "text", form: Form = "auto", source: str = ""
) -> str:
    """The formula of a problem's outputs and their derivatives.

    Args:
        problem: What is differentiated; which operator it asks for does not matter.
        lang: `text` or `latex` for people; `python`, `c` or `julia` for a function.
        form: `expanded`: every number; `matrix`: tensors and layers by name; `auto`: the first for
            programs, and for people where there are few numbers.
        source: What it is made from, for its first line.

    Raises:
        UsageError: When there is no such language or form, or the form is not that language's.
        CannotError: When the network is too large, or has no closed form.
    """
    for given, kind, what in ((lang, Language, "language"), (form, Form, "form")):
        if given not in get_args(kind):
            known = ", ".join(get_args(kind))
            raise UsageError(f"a formula has no {what} {given!r}", f"choose {known}")
    if lang not in ("text", "latex"):
        if form == "matrix":
            raise UsageError(
                f"a program in {lang} is written number by number", "leave out --form matrix"
            )
        return program(problem, lang, source)
    if form == "expanded":
        return expanded(problem, lang, source)
    if form == "auto" and constants(problem) <= MOST_TO_READ:
        try:
            return expanded(problem, lang, source)
        except CannotError:
            # Few numbers, and yet no closed form that anybody would read.
            return matrices(problem, lang, source)
    return matrices(problem, lang, source)
