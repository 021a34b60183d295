"""Writes docs/cli.md and docs/python.md: what the commands and the Python API say of themselves.

python docs/reference.py
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from click.testing import CliRunner

import gradcli
from gradcli.cli import main

HERE = Path(__file__).resolve().parent


def commands() -> str:
    """Every command's help, as it is printed 100 columns wide."""
    names = re.findall(r"^  ([a-z]+)  ", _help().split("Commands:\n")[1], re.MULTILINE)
    parts = ["# The command line", *_block("gradcli", _help())]
    for name in names:
        parts += _block(f"gradcli {name}", _help(name))
    return _page(parts)


def _help(*name: str) -> str:
    shown = CliRunner().invoke(main, [*name, "--help"], env={"COLUMNS": "100"})
    assert shown.exit_code == 0, shown.output
    return shown.stdout.rstrip()


def _block(title: str, text: str) -> list[str]:
    return [f"## `{title}`", f"```text\n{text}\n```"]


def python() -> str:
    """Every public name's signature and docstring."""
    parts = [
        "# From Python",
        "`import gradcli` loads nothing else; what follows is loaded when used.",
    ]
    for name in sorted(gradcli.__all__, key=str.lower):
        thing = getattr(gradcli, name)
        parts += [f"## `gradcli.{name}`", f"```py\n{_signature(name, thing)}\n```"]
        parts += [f"```text\n{inspect.cleandoc(thing.__doc__ or '')}\n```"]
        if inspect.isclass(thing):
            for method, function in inspect.getmembers(thing, inspect.isfunction):
                if not method.startswith("_"):
                    parts.append(f"```py\n{_signature(f'{name}.{method}', function)}\n```")
                    parts.append(f"```text\n{inspect.cleandoc(function.__doc__ or '')}\n```")
    return _page(parts)


def _signature(name: str, thing: object) -> str:
    """One parameter a line, where there are several; annotations as they are written."""
    if inspect.isclass(thing):
        return f"class {name}"
    assert inspect.isfunction(thing)
    found = inspect.signature(thing)
    each = [_parameter(p) for p in found.parameters.values()]
    named = [p.kind is p.KEYWORD_ONLY for p in found.parameters.values()]
    if True in named:
        each.insert(named.index(True), "*")
    line = f"def {name}({', '.join(each)}) -> {found.return_annotation}"
    if len(line) <= 100:
        return line
    return "\n".join(
        [f"def {name}(", *(f"    {p}," for p in each), f") -> {found.return_annotation}"]
    )


def _parameter(p: inspect.Parameter) -> str:
    typed = p.name if p.annotation is p.empty else f"{p.name}: {p.annotation}"
    return typed if p.default is p.empty else f"{typed} = {p.default!r}"


def _page(parts: list[str]) -> str:
    return "\n\n".join(parts) + "\n"


PAGES = {"cli.md": commands, "python.md": python}

if __name__ == "__main__":
    for page, made in PAGES.items():
        (HERE / page).write_text(made(), encoding="utf-8", newline="\n")
