"""Tensors by the names that a user gives: found, checked, or answered with near ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from gradcli.errors import UsageError
from gradcli.graph import Graph, Value
from gradcli.problem.question import static
from gradcli.transform import Element

if TYPE_CHECKING:
    from gradcli.onnxfile import Model


def shown(model: Model, names: Sequence[str] | None) -> list[str] | None:
    """Tensors, or elements of them, by the names that they have here, not by their real ones."""

    def one(text: str) -> str:
        match = None if text in model.real_names else _ELEMENT.match(text)
        return model.shown(text) if match is None else f"{model.shown(match[1])}[{match[2]}]"

    return None if names is None else [one(text) for text in names]


def float_tensors(graph: Graph, names: Sequence[str] | None) -> list[str]:
    """What to differentiate with respect to: these float tensors, or the float inputs.

    Raises:
        UsageError: For an unknown name, or when there is no float input.
    """
    if names:
        by_name = {v.name: v for v in graph.values()}
        for name in names:
            _known(name, by_name, "--wrt")
        return list(dict.fromkeys(names))
    found = [v.name for v in graph.inputs if v.dtype.is_float]
    if not found:
        candidates = [v.name for node in graph.nodes for v in node.makes() if v.dtype.is_float]
        listed = ", ".join(candidates[:5]) or "none"
        raise UsageError(
            "the model has no float input to differentiate with respect to",
            f"choose a float tensor inside it with --wrt; the first ones are: {listed}",
        )
    return found


_ELEMENT = re.compile(r"^(?P<tensor>.*)\[(?P<index>[^\[\]]*)\]$", re.DOTALL)


def asked_parts(graph: Graph, names: Sequence[str] | None) -> list[Element]:
    """What to differentiate: these float tensors or parts of them, or the float outputs.

    Raises:
        UsageError: For an unknown name or an index that is none, or when there is no float output.
    """
    by_name = {v.name: v for v in graph.values()}
    if not names:
        floats = (v.name for v in graph.outputs if v.dtype.is_float)
        found = [Element(name) for name in dict.fromkeys(floats)]
        if not found:
            raise UsageError(
                "the model has no float output to differentiate",
                "choose a float tensor inside it with --of",
            )
        return found
    found = []
    for text in dict.fromkeys(names):
        match = _ELEMENT.match(text)
        if text in by_name or match is None:
            _known(text, by_name, "--of")
            found.append(Element(text))
        else:
            _known(match["tensor"], by_name, "--of")
            found.append(Element(match["tensor"], _index(match["index"], text), text))
    return found


def _index(text: str, whole: str) -> tuple[int | slice, ...]:
    try:
        return tuple(_one_index(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--of {whole!r}: the index is not a list of integers and slices",
            "write it as 'NAME[0,3]' or 'NAME[:,2]'",
        ) from None


def _one_index(text: str) -> int | slice:
    if ":" not in text:
        return int(text)
    parts = [int(p) if p.strip() else None for p in text.split(":")]
    if len(parts) > 3 or parts[2:] == [0]:
        raise ValueError(text)
    return slice(*parts)


def check_index(graph: Graph, element: Element) -> None:
    """Refuse an element that the tensor does not have.

    Raises:
        UsageError: Naming the tensor's shape.
        UnsupportedError: When that is not known before the run.
    """
    value = graph.value(element.tensor)
    if value is None or not element.index:
        return
    shape = static(value)
    fits = len(element.index) <= len(shape) and all(
        len(range(size)[at]) > 0 if isinstance(at, slice) else -size <= at < size
        for at, size in zip(element.index, shape, strict=False)
    )
    if not fits:
        raise UsageError(
            f"--of {element.name!r}: there is no such element; {element.tensor!r} has shape"
            f" {list(shape)}",
            "indices start at 0, one for each axis",
        )


def _known(name: str, by_name: Mapping[str, Value], option: str) -> None:
    value = by_name.get(name)
    if value is None:
        match = _ELEMENT.match(name)
        if option == "--wrt" and match is not None and match["tensor"] in by_name:
            raise UsageError(
                f"--wrt {name!r}: a derivative is with respect to whole tensors",
                f"choose --wrt {match['tensor']!r} and read the result at the element's index",
            )
        hint = near(name, by_name) or "the model's tensors include " + ", ".join(list(by_name)[:5])
        raise UsageError(f"{option}: the model has no tensor called {name!r}", hint)
    if not value.dtype.is_float:
        raise UsageError(
            f"{option}: tensor {name!r} holds {value.dtype.value}, which has no derivative",
            "choose a float tensor",
        )


def near(name: str, names: Iterable[str]) -> str:
    """A question with the names that look like this one, or nothing."""
    folded = {other.casefold(): other for other in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=4, cutoff=0.5)
    return f"did you mean {', '.join(folded[n] for n in near)}?" if near else ""
