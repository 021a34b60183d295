"""The models of a project and how each is checked: `[tool.gradcli]`, or `gradcli.toml`."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gradcli.api import Settings, engine
from gradcli.checks.keys import HOW, MODEL, WHOLE, Table, near, read_table, short
from gradcli.comparison import Inconclusive
from gradcli.errors import UsageError
from gradcli.onnxfile import printable

OWN = "gradcli.toml"
SHARED = "pyproject.toml"

HEADING = "[[tool.gradcli.model]]"
"""Above each model."""

OWN_HEADING = "[[model]]"
"""Likewise, in a file that is gradcli's own."""

MODEL_LEAST = 'path = "model.onnx"\ninputs = "point.npz"'
"""The least that a model says."""

MAX_BYTES = 10_000_000
"""Of a configuration: it is read as a whole."""


@dataclass(frozen=True)
class Entry:
    """A model that is checked.

    Attributes:
        name: What it is called; no other is called so.
        path: The file.
        inputs: Pairs of an input's name, or "", and a file, for `--input`.
        shapes: Pairs of an input's name and a shape, for `--shape`.
        question: The other arguments of `api.ask`.
        tangent: A file, or None.
        cotangent: Likewise.
        settings: How it is compared.
        inconclusive: What it counts as when nothing could be decided; None: by the judge.
    """

    name: str
    path: str
    inputs: tuple[tuple[str, str], ...]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    question: Mapping[str, Any]
    tangent: str | None
    cotangent: str | None
    settings: Settings
    inconclusive: Inconclusive | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All that are read."""
        given = (self.path, *(path for _, path in self.inputs), self.tangent, self.cotangent)
        return tuple(path for path in given if path is not None)


@dataclass(frozen=True)
class Config:
    """What a project says about its models.

    Attributes:
        path: The file.
        models: In the file's order; those that a pattern finds, by name.
        baseline: The file of what they were before, or None.
    """

    path: Path
    models: tuple[Entry, ...]
    baseline: str | None = None

    def chosen(self, names: Sequence[str]) -> tuple[Entry, ...]:
        """The models of these names, in the file's order; all where there are none.

        Raises:
            UsageError: For a name that there is not.
        """
        known = {entry.name: entry for entry in self.models}
        for name in names:
            if name not in known:
                shown = _shown(self.path)
                raise UsageError(
                    f"{shown} has no model called {short(repr(name))}", near(name, tuple(known))
                )
        return tuple(entry for entry in self.models if not names or entry.name in names)


def find(start: Path) -> Path:
    """The configuration of a folder: the nearest one there or above it.

    In a folder, `gradcli.toml` goes before `pyproject.toml`, which is one where it has the table
    `[tool.gradcli]`.

    Raises:
        UsageError: When there is none, or one that cannot be read.
    """
    for folder in (start, *start.parents):
        if os.path.lexists(folder / OWN):  # what cannot be read is told, and not passed over
            return folder / OWN
        shared = folder / SHARED
        if shared.is_file() and "gradcli" in _tool(_parsed(shared)):
            return shared
    raise UsageError(
        f"there is no {OWN} here or in a folder above, and no {SHARED} with [tool.gradcli]",
        f"write one, or name one with --config. The least that {SHARED} says:\n{HEADING}\n"
        f"{MODEL_LEAST}",
    )


def read(path: Path) -> Config:
    """What a configuration says, every key of it checked.

    Args:
        path: A TOML file. Where it has no `[tool.gradcli]`, and is no `pyproject.toml`, the keys
            stand at its top.

    Raises:
        UsageError: When it cannot be read or says what cannot be.
    """
    data = _parsed(path)
    nested = "gradcli" in _tool(data)
    if path.name == SHARED and not nested:
        raise UsageError(
            f"{_shown(path)}: has no [tool.gradcli]", f"write one:\n{HEADING}\n{MODEL_LEAST}"
        )
    content = _tool(data)["gradcli"] if nested else data
    top = Table(_shown(path), "[tool.gradcli]" if nested else "at the top")
    heading = HEADING if nested else OWN_HEADING
    least = f"write one:\n{heading}\n{MODEL_LEAST}"
    if path.name == OWN and nested and (outside := data.keys() - {"tool"}):
        key = printable(min(outside))
        raise top.error(f"{key!r} stands outside of it", "move it there, or leave out tool.gradcli")
    if not isinstance(content, Mapping):
        raise top.error("is no table", least)
    if not isinstance(content.get("model", []), list):
        raise top.wrong("model", content["model"], WHOLE["model"].wanted, least)
    whole = read_table(content, WHOLE, top)
    tables = whole.pop("model", [])
    baseline = whole.pop("baseline", None)
    if not tables:
        raise top.error(f"names no model: there is no {heading}", least)
    models: list[Entry] = []
    for number, table in enumerate(tables, 1):
        models += _entries(table, whole, path.parent, top.file, f"{heading} {number}")
    _refuse_twins(models, top)
    return Config(path, tuple(models), baseline and _beside(path.parent, baseline))


# ---- files ---------------------------------------------------------------------------------------


def _parsed(path: Path) -> dict[str, Any]:
    shown = _shown(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"{shown}: more than {MAX_BYTES:,} bytes", "is this a TOML file?")
        return tomllib.loads(data.decode("utf-8-sig"))  # as editors on Windows save it
    except FileNotFoundError as error:
        raise UsageError(f"{shown}: there is no such file", "check --config") from error
    except OSError as error:
        raise UsageError(
            f"{shown}: cannot be read ({error.strerror})", "name a TOML file"
        ) from error
    except (ValueError, RecursionError) as error:  # TOML's own errors, characters, endless integers
        raise UsageError(
            f"{shown}: is no TOML: {printable(str(error))}", "correct the file there"
        ) from error


def _tool(data: Mapping[str, Any]) -> Mapping[str, Any]:
    tool = data.get("tool", {})
    return tool if isinstance(tool, Mapping) else {}


def _shown(path: Path) -> str:
    return printable(_beside(path.parent, path.name))


def _beside(folder: Path, path: str) -> str:
    """A path that a file in this folder names, from the current directory where it is below."""
    whole = os.path.normpath(folder / path)
    try:
        here = os.path.relpath(whole)
    except ValueError:  # on another drive
        return whole
    if here == "-":
        return f".{os.sep}-"  # alone it would be standard input
    return str(Path(whole).absolute()) if Path(here).parts[:1] == (os.pardir,) else here


# ---- models --------------------------------------------------------------------------------------


def _entries(
    table: Any, defaults: Mapping[str, Any], folder: Path, file: str, heading: str
) -> Iterator[Entry]:
    """The models of one table, more than one where its path is a pattern."""
    called = table.get("name", table.get("path", "")) if isinstance(table, Mapping) else ""
    where = Table(file, f"{heading} ({short(printable(str(called)))})" if called else heading)
    if not isinstance(table, Mapping):
        raise where.error("is no table", f"as {heading.rpartition(' ')[0]}\n{MODEL_LEAST}")
    given = {**defaults, **read_table(table, MODEL, where)}
    if "path" not in given:
        raise where.error("says no path", 'write path = "model.onnx"')
    pattern = given.pop("path")
    name = given.pop("name", None)
    for path in _found(pattern, folder, where):
        stem = Path(path).stem or path
        several = is_pattern(pattern, folder)
        called = name or stem if not several else f"{name}-{stem}" if name else stem
        yield _entry(called, path, stem, given, folder, where)


def is_pattern(path: str, folder: Path) -> bool:
    """Whether it may name several files of a folder."""
    return any(c in path for c in "*?[") and not (folder / path).exists()


def _found(pattern: str, folder: Path, where: Table) -> list[str]:
    """The files that a path or a pattern names."""
    if not is_pattern(pattern, folder):
        return [_beside(folder, pattern)]
    if Path(pattern).is_absolute():
        raise where.error(f"path is {pattern!r}, and a pattern starts at the file's folder")
    try:
        found = sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern))
    except ValueError as error:
        raise where.error(f"path is {pattern!r}, which is no pattern: {error}") from error
    if not found:
        raise where.error(
            f"path is {pattern!r}, and there is no such file", "it is taken from the file's folder"
        )
    return [_beside(folder, path) for path in found]


def _entry(
    name: str, path: str, stem: str, given: Mapping[str, Any], folder: Path, where: Table
) -> Entry:
    def file(path: str) -> str:
        return _beside(folder, path.replace("{stem}", stem))

    def optional(key: str) -> str | None:
        return file(given[key]) if key in given else None

    settings = {f.name: given[f.name] for f in fields(Settings) if f.name in given}
    for method in given.get("methods", ()):
        try:
            engine(method)
        except UsageError as error:
            raise where.error(f"methods: {error.message}", error.hint) from error
    asked = (
        *("wrt", "of", "operator", "dtype", "threads", "provider", "seed", "straight_through"),
        "image",
    )
    assert {*settings, *asked, "inconclusive"} >= HOW.keys() & given.keys()
    return Entry(
        name,
        path,
        tuple((name, file(path)) for name, path in given.get("inputs", ())),
        given.get("shapes", ()),
        {key: given[key] for key in asked if key in given},
        optional("tangent"),
        optional("cotangent"),
        Settings(**settings, narrow="dtype" in given),
        given.get("inconclusive"),
    )


def _refuse_twins(models: Iterable[Entry], where: Table) -> None:
    seen: set[str] = set()
    for entry in models:
        if entry.name in seen:
            raise where.error(
                f"two models are called {short(repr(entry.name))}",
                'give one of them another: name = "..."',
            )
        seen.add(entry.name)
