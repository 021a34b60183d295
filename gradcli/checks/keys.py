"""The keys of a configuration: what each may be, and what to say when it is something else."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gradcli.errors import UsageError

LONG = 60
"""Letters that an error quotes of what is longer."""

KINDS = {
    str: "a string",
    bool: "a truth value",
    int: "an integer",
    float: "a number",
    list: "an array",
    dict: "a table",
}


@dataclass(frozen=True)
class Table:
    """A table of a file.

    Attributes:
        file: The file, printable.
        name: The table: `[tool.gradcli]`, or `[[tool.gradcli.model]] 2 (digits)`.
    """

    file: str
    name: str

    def wrong(self, key: str, value: Any, wanted: str, hint: str = "") -> UsageError:
        """The error of a value that cannot be."""
        kind = KINDS.get(type(value), f"a {type(value).__name__}")
        return self.error(f"{key} is {short(repr(value))}, {kind}, and must be {wanted}", hint)

    def error(self, message: str, hint: str = "") -> UsageError:
        """An error that says where it is."""
        return UsageError(f"{self.file}, {self.name}: {message}", hint)


@dataclass(frozen=True)
class Key:
    """What a key takes.

    Attributes:
        wanted: In words, after `must be`.
        example: A value as it would be written.
        takes: The value as Python has it; None where it cannot be.
    """

    wanted: str
    example: str
    takes: Callable[[Any], Any]


def _is(kind: type) -> Callable[[Any], Any]:
    return lambda x: (
        x if isinstance(x, kind) and not (kind is int and isinstance(x, bool)) else None
    )


def _text(x: Any) -> Any:
    return x if isinstance(x, str) and x.strip() else None


def _texts(x: Any) -> Any:
    each = [x] if isinstance(x, str) else x
    good = isinstance(each, list) and each and all(_text(e) for e in each)
    return tuple(each) if good else None


def _number(least: float, *, above: bool = False) -> Callable[[Any], Any]:
    def takes(x: Any) -> Any:
        if isinstance(x, bool) or not isinstance(x, int | float) or not abs(x) < math.inf:
            return None
        if abs(x) > sys.float_info.max:  # an integer that no number of 64 bits comes near
            return None
        return float(x) if (x > least if above else x >= least) else None

    return takes


def _count(least: int, most: float = math.inf) -> Callable[[Any], Any]:
    return lambda x: x if type(x) is int and least <= x <= most else None


def _choice(*names: str) -> Key:
    listed = f"{', '.join(names[:-1])} or {names[-1]}"
    return Key(f"one of {listed}", f'"{names[0]}"', lambda x: x if x in names else None)


def _files(x: Any) -> Any:
    """Pairs of an input's name and a path; the name is empty for what stands alone."""
    if isinstance(x, Mapping):
        return tuple(x.items()) if x and all(_text(path) for path in x.values()) else None
    each = _texts(x)
    return None if each is None else tuple(("", path) for path in each)


def _shapes(x: Any) -> Any:
    if not isinstance(x, Mapping):
        return None
    good = all(
        isinstance(shape, list) and all(type(d) is int and d >= 0 for d in shape)
        for shape in x.values()
    )
    return tuple((name, tuple(shape)) for name, shape in x.items()) if good else None


_TEXT = Key("a string that is not empty", '"name"', _text)
_TEXTS = Key("a string, or an array of strings", '["a", "b"]', _texts)
_FILE = Key("the path of a file", '"file.npz"', _text)

HOW: Mapping[str, Key] = {
    "operator": _choice("gradient", "jacobian", "jvp", "vjp"),
    "methods": Key("the name of a method, or an array of names", '["forward", "reverse"]', _texts),
    "dtype": _choice("float32", "float64"),
    "rtol": Key("a number of at least 0", "1e-6", _number(0)),
    "atol": Key("a number of at least 0", "0.0", _number(0)),
    "step": Key("a number above 0", "1e-6", _number(0, above=True)),
    "runs": Key("an integer of at least 1", "10", _count(1)),
    "warmup": Key("an integer of at least 0", "1", _count(0)),
    "budget": Key("a number of seconds above 0", "60", _number(0, above=True)),
    "reference": _choice("auto", "certified", "float64"),
    "at_kink": _choice("report", "skip", "fail", "nudge"),
    "inconclusive": _choice("fail", "warn", "ok"),
    "straight_through": Key("true or false", "true", _is(bool)),
    "threads": Key("an integer from 1 to 1024", "1", _count(1, 1024)),
    "provider": Key("onnxruntime's name of a provider", '"CPUExecutionProvider"', _text),
    "seed": Key("an integer of at least 0", "0", _count(0)),
}
"""Keys of a model that the table above may set for all of them."""

MODEL: Mapping[str, Key] = {
    "name": _TEXT,
    "path": Key("the path of an .onnx file, or a pattern of such paths", '"models/*.onnx"', _text),
    "inputs": Key(
        "a path, an array of paths, or a table of paths by the name of the input",
        '{ x = "x.npy" }',
        _files,
    ),
    "shapes": Key("a table of shapes by the name of the input", "{ x = [1, 3] }", _shapes),
    "wrt": _TEXTS,
    "of": _TEXTS,
    "image": Key("what --image takes", '"mean=0.5,std=0.5"', _text),
    "tangent": _FILE,
    "cotangent": _FILE,
    **HOW,
}
"""Keys of a model."""

WHOLE: Mapping[str, Key] = {
    "baseline": _FILE,
    "model": Key("an array of tables", "[]", _is(list)),
    **HOW,
}
"""Keys of the table above the models."""


def read_table(given: Mapping[str, Any], known: Mapping[str, Key], where: Table) -> dict[str, Any]:
    """What a table says, as Python has it.

    Raises:
        UsageError: For a key that there is not, or a value that it cannot have.
    """
    found = {}
    for key, value in given.items():
        if key not in known:
            raise where.error(f"there is no key {short(repr(key))}", near(key, known))
        found[key] = known[key].takes(value)
        if found[key] is None:
            raise where.wrong(key, value, known[key].wanted, f"as {key} = {known[key].example}")
    return found


def short(text: str) -> str:
    """A text as an error quotes it."""
    return text if len(text) <= LONG else f"{text[:LONG]}..."


def near(name: str, among: Mapping[str, Any] | tuple[str, ...]) -> str:
    """A hint with names like this one, or all there are."""
    alike = [] if len(name) > LONG else difflib.get_close_matches(name, list(among), 3)
    if alike:
        return f"did you mean {' or '.join(alike)}?"
    return f"there are: {', '.join(among)}"
