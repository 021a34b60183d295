"""A question completed and checked, and what callers may leave out."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from gradcli import onnxfile, runtime
from gradcli.engines import ENGINES, Engine
from gradcli.errors import InputError, UnfitError, UsageError
from gradcli.graph import DType
from gradcli.onnxfile import Model
from gradcli.ops import OPS
from gradcli.problem import Problem, check_directions, check_feeds, open_dims, pose

Source = str | os.PathLike[str] | bytes | Model
"""A model: the path of a file, its bytes, or what `load` made of it."""

Given = Mapping[str, ArrayLike] | ArrayLike | None
"""Arrays by tensor name, or just the array where there is only one tensor that it can be for."""

SIZES = (8, 32, 128, 224, 512)
"""Of unknown dimensions of inputs that are drawn, where a model cannot take 1: the first that it
can."""

WIDTHS = {"float32": DType.FLOAT32, "float64": DType.FLOAT64}


def load(source: Source, *, name: str = "<bytes>") -> Model:
    """Read a model once, to be asked several questions.

    Args:
        source: A path or the file's bytes.
        name: What to call a model given as bytes.

    Raises:
        ModelError: When it is no ONNX model that gradcli can take.
    """
    return source if isinstance(source, Model) else onnxfile.read(source, OPS, name=name)


def ask(
    model: Source,
    inputs: Given = None,
    *,
    wrt: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    operator: str | None = None,
    dtype: str | None = None,
    tangent: Given = None,
    cotangent: Given = None,
    threads: int = 1,
    provider: str = "CPUExecutionProvider",
    seed: int = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
    straight_through: bool = False,
) -> Problem:
    """Complete and check a question. See `compare` for the arguments."""
    model = load(model)
    runtime.check_provider(provider)
    given = _inputs(model, inputs)
    posed = partial(
        pose,
        model,
        wrt=names_of(wrt),
        of=names_of(of),
        operator=operator,
        dtype=_width(dtype),
        tangents=_directions(tangent),
        cotangents=_directions(cotangent),
        threads=threads,
        provider=provider,
        seed=seed,
        straight_through=straight_through,
    )
    feeds, notes = check_feeds(model, given, shapes=shapes, seed=seed)
    try:
        return posed(feeds, notes=notes)
    except UnfitError as error:
        asked = {**(shapes or {}), **{name: a.shape for name, a in given.items()}}
        if not open_dims(model, {model.shown(name): shape for name, shape in asked.items()}):
            raise
        for size in SIZES:
            drawn, notes = check_feeds(model, given, shapes=shapes, seed=seed, size=size)
            with suppress(UnfitError):
                return posed(drawn, notes=notes)
        raise _how_large(error, feeds, given) from error


def _how_large(
    error: UnfitError, feeds: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]
) -> UnfitError:
    """The error, with what to type: which inputs were drawn, and how to say their shapes."""
    options = " ".join(
        f"--shape {name}={','.join(map(str, a.shape))}"
        for name, a in feeds.items()
        if name not in given and a.dtype.kind == "f" and a.ndim
    )
    return UnfitError(
        error.message,
        "the file does not say how large its inputs are: give real data with --input, or their"
        f" shapes, with the right numbers in place of the 1s that were tried: {options}",
    )


def engine(name: str) -> Engine:
    """The method of this name.

    Raises:
        UsageError: When there is none, with near names.
    """
    if name not in ENGINES:
        near = difflib.get_close_matches(name, ENGINES, 3)
        raise UsageError(
            f"there is no method called {name!r}",
            f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(ENGINES)}",
        )
    return ENGINES[name]


# ---- what callers may leave out ------------------------------------------------------------------


def names_of(given: str | Sequence[str] | None) -> list[str] | None:
    """One name or several as a list; None for none."""
    if given is None:
        return None
    return [given] if isinstance(given, str) else list(given) or None


def _width(dtype: str | None) -> DType | None:
    if dtype is None:
        return None
    if dtype not in WIDTHS:
        raise UsageError(f"gradcli does not compute in {dtype!r}", f"choose {' or '.join(WIDTHS)}")
    return WIDTHS[dtype]


def _inputs(model: Model, given: Given) -> dict[str, np.ndarray]:
    """Arrays by input name; a single array is for the only input."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {model.shown(name): np.asarray(array) for name, array in given.items()}
    names = [v.name for v in model.graph.inputs]
    if len(names) != 1:
        raise InputError(
            f"one array was given, and the model has {len(names)} inputs",
            f"give arrays by name: {', '.join(names)}",
        )
    return {names[0]: np.asarray(given)}


def merged(model: Model, inputs: Given, point: Given) -> dict[str, np.ndarray]:
    """The inputs of a point, and of those that are the same at all points the rest."""
    return {**_inputs(model, inputs), **_inputs(model, point)}


def complete(model: Model, given: Given) -> dict[str, np.ndarray]:
    """An array for every input of the model, none drawn at random.

    Raises:
        InputError: When one is missing.
    """
    arrays = _inputs(model, given)
    if missing := [v.name for v in model.graph.inputs if v.name not in arrays]:
        raise InputError(
            f"no array is given for input {', '.join(missing)}",
            "give arrays by name, or an array where the model has one input",
        )
    return check_feeds(model, arrays)[0]


def _directions(given: Given) -> dict[str, np.ndarray] | None:
    """Arrays by name; a single array under the empty name, which stands for the only tensor."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {name: np.asarray(array) for name, array in given.items()}
    return {"": np.asarray(given)}


def needed(
    problem: Problem, given: Given, what: str, operator: str
) -> dict[str, np.ndarray] | None:
    """Checked directions where the operator takes them, None where it takes none."""
    arrays = _directions(given)
    if problem.operator != operator:
        if arrays is not None:
            raise UsageError(f"a {problem.operator} takes no {what}", f"prepare a {operator}")
        return None
    if arrays is None:
        raise InputError(f"a {operator} needs a {what}", f"call run({what}=...)")
    return check_directions(problem, arrays, what)
