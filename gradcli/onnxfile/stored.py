"""Data of constants that stays in the files where it lies: a second model refers to it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gradcli.graph import Graph, Value
from gradcli.onnxfile.model import Model
from gradcli.onnxfile.names import printable, text
from gradcli.onnxfile.source import parse
from gradcli.onnxfile.tensors import NUMBERS

if TYPE_CHECKING:
    import onnx


def stored(model: Model, graph: Graph, folder: Path) -> dict[Value, dict[str, str]]:
    """The constants of a graph that lie, as they are, in files of a model that it was made of.

    Args:
        model: The model.
        graph: Made of the model's graph.
        folder: Where the new file will lie. Only what is in it, or further below, can be referred
            to: no path may climb.

    Returns:
        For each of those constants ONNX's words for where its data is: location, offset, length.
    """
    if not model.mapped or model.folder is None:
        return {}
    below = os.path.relpath(os.path.realpath(model.folder), os.path.realpath(folder))
    parts = Path(below).parts
    if ".." in parts or Path(below).is_absolute():
        return {}
    # The very arrays: what was cast to another width, or computed, is other data.
    names = {id(array): name for name, array in model.mapped.items()}
    kept = {v: names[id(a)] for v, a in graph.constants.items() if id(a) in names}
    if not kept:
        return {}
    entries = _entries(model)
    return {
        value: {**entries[name], "location": "/".join((*parts, entries[name]["location"]))}
        for value, name in kept.items()
    }


def _entries(model: Model) -> dict[str, dict[str, str]]:
    """By the name of a constant here: what the file says of where its data is."""
    shown = {raw: name for name, raw in model.raw_names.items()}
    found = {}
    for tensor in parse(model.data, model.path).graph.initializer:
        if tensor.data_location == tensor.EXTERNAL:
            name = shown.get(tensor.name, printable(tensor.name))
            found[name] = {text(e.key): text(e.value) for e in tensor.external_data}
    return found


def data_files(model: Model) -> list[Path]:
    """The files that a model's constants lie in."""
    if not model.mapped or model.folder is None:
        return []
    return [model.folder / name for name in {e["location"] for e in _entries(model).values()}]


def pointer(
    name: str, value: Value, array: np.ndarray, where: Mapping[str, str]
) -> onnx.TensorProto:
    """A tensor whose data is elsewhere, as a message."""
    import onnx

    proto = onnx.TensorProto(
        name=name,
        data_type=NUMBERS[value.dtype],
        dims=array.shape,
        data_location=onnx.TensorProto.EXTERNAL,
    )
    for key, said in where.items():
        proto.external_data.add(key=key, value=said)
    return proto
