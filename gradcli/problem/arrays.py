"""Inputs and directions: checked against the model, or drawn at random and said so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradcli.errors import InputError, UsageError
from gradcli.graph import DType, Value
from gradcli.problem.names import near
from gradcli.problem.question import Problem, static

if TYPE_CHECKING:
    from gradcli.onnxfile import Model


DRAWN = "is random (standard normal"
"""What a note says of inputs that nobody gave."""


def check_directions(
    problem: Problem, given: Mapping[str, np.ndarray], what: str
) -> dict[str, np.ndarray]:
    """Tangents or cotangents for a problem, in float64.

    Args:
        problem: The question.
        given: Arrays by name; the empty name stands for the only tensor.
        what: `tangent` or `cotangent`.

    Raises:
        InputError: When one is missing, unknown, of another shape, or not finite.
    """
    graph = problem.graph
    if problem.model is not None:
        given = {problem.model.shown(name): array for name, array in given.items()}
    values, names = (
        (graph.inputs, problem.wrt) if what == "tangent" else (graph.outputs, problem.of)
    )
    return complete_directions(values, names, given, what, True, np.random.default_rng(0), [])


def complete_directions(
    values: Sequence[Value],
    names: Sequence[str],
    given: Mapping[str, np.ndarray] | None,
    what: str,
    needed: bool,
    rng: np.random.Generator,
    said: list[str],
) -> dict[str, np.ndarray]:
    """Checked directions for these names, or random ones."""
    if not needed:
        if given is not None:
            raise UsageError(
                f"--{what} makes no sense for this operator",
                f"use --operator {'jvp' if what == 'tangent' else 'vjp'}",
            )
        return {}
    shapes = {v.name: static(v) for v in values}
    if given is None:
        said.append(f"the {what} is random (standard normal); give one with --{what} FILE")
        return {name: rng.standard_normal(shapes[name]) for name in names}
    out = {}
    if extra := given.keys() - set(names) - {""}:
        raise InputError(
            f"--{what}: {', '.join(sorted(extra))} is not differentiated here",
            f"it needs an array for each of: {', '.join(names)}",
        )
    for name in names:
        array = given.get(name, given.get("") if len(names) == 1 else None)
        if array is None:
            raise InputError(
                f"--{what}: there is no array for {name!r}",
                f"give a .npz with an array for each of: {', '.join(names)}",
            )
        array = np.asarray(array)
        if array.dtype.kind not in "fiu":
            raise InputError(f"--{what}: the array for {name!r} holds {array.dtype}, not floats")
        if array.shape != shapes[name]:
            raise InputError(
                f"--{what}: the array for {name!r} has shape {list(array.shape)};"
                f" the tensor has {list(shapes[name])}"
            )
        if not np.all(np.isfinite(array)):
            raise InputError(f"--{what}: the array for {name!r} holds NaN or infinity")
        out[name] = array.astype(np.float64)
    return out


# ---- the point -----------------------------------------------------------------------------------


def check_feeds(
    model: Model,
    given: Mapping[str, np.ndarray],
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    size: int = 1,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """An array for each model input: the given ones checked, missing float ones drawn at random.

    Args:
        model: The file.
        given: Arrays by input name, real or as it is shown.
        shapes: For drawing: shapes by input name. Without one, a symbolic dimension is as large as
            in an input that has it too and is given, else 1 or, where it does not come first,
            `size`.
        seed: Of the draw.
        size: Of the unknown dimensions that are `open_dims`.

    Returns:
        The arrays, and what must be said about those that were drawn.

    Raises:
        InputError: For an unknown or missing name, a wrong shape or dtype, NaN or infinity.
    """
    inputs = {v.name: v for v in model.graph.inputs}
    given = {model.shown(name): array for name, array in given.items()}
    shapes = {model.shown(name): shape for name, shape in (shapes or {}).items()}
    known = declared(model)
    for name in (*given, *shapes):
        if name not in known or (name in shapes and name not in inputs):
            raise InputError(
                f"the model has no input called {name!r}",
                near(name, inputs) or f"its inputs are: {', '.join(inputs)}",
            )
    feeds: dict[str, np.ndarray] = {}
    drawn: list[str] = []
    rng = np.random.default_rng(seed)
    asked = {**shapes, **{name: np.shape(array) for name, array in given.items()}}
    sizes = {
        **dict.fromkeys(open_dims(model, asked), size),
        **_sizes(inputs, asked),
    }
    for name, value in inputs.items():
        if name in given:
            feeds[name] = _fit(name, np.asarray(given[name]), value)
        elif value.dtype.is_float:
            shape = _drawn_shape(value, shapes.get(name), sizes)
            feeds[name] = rng.standard_normal(shape).astype(value.dtype.np)
            drawn.append(f"{name}{list(shape)}")
        else:
            raise InputError(
                f"input {name!r} holds {value.dtype.value} and cannot be drawn at random",
                f"give it with --input {name}=FILE.npy, or one number for all of it:"
                f" --input {name}=1",
            )
    for name in given.keys() - inputs.keys():
        if not known[name].dtype.is_float:
            raise InputError(
                f"input {name!r} holds {known[name].dtype.value} and has a value in the model",
                "gradcli replaces such values where they are floats only: leave it out",
            )
        feeds[name] = _fit(name, np.asarray(given[name]), known[name])
    notes = []
    if drawn:
        notes.append(f"input {', '.join(drawn)} {DRAWN}, seed {seed}): give real data with --input")
    return feeds, notes


def _sizes(inputs: Mapping[str, Value], asked: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """What arrays and shapes that are given say of symbolic dimensions."""
    return {
        dim: int(size)
        for name, value in inputs.items()
        for dim, size in zip(value.shape or (), asked.get(name, ()), strict=False)
        if isinstance(dim, str)
    }


def open_dims(model: Model, asked: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """Symbolic dimensions of inputs to be drawn that nothing says the size of.

    Those that come first in an input are not among them: they count what is 1 at a point.

    Args:
        model: The file.
        asked: Shapes of inputs that are given, or asked for, by name.
    """
    inputs = {v.name: v for v in model.graph.inputs}
    shapes = [v.shape for v in inputs.values() if v.shape]
    known = {*_sizes(inputs, asked), *(shape[0] for shape in shapes)}
    found = (
        d
        for name, value in inputs.items()
        if name not in asked and value.dtype.is_float
        for d in (value.shape or ())[1:]
        if isinstance(d, str) and d not in known
    )
    return tuple(dict.fromkeys(found))


def declared(model: Model) -> dict[str, Value]:
    """What a run may be given: the inputs, then the constants that are declared as inputs too."""
    defaults = (v for v in model.graph.constants if v.name in set(model.overridable))
    return {v.name: v for v in (*model.graph.inputs, *defaults)}


def _drawn_shape(
    value: Value, asked: Sequence[int] | None, sizes: Mapping[str, int]
) -> tuple[int, ...]:
    if asked is not None:
        shape = tuple(int(d) for d in asked)
        check_shape(value.name, shape, value, "--shape")
        return shape
    if value.shape is None:
        raise InputError(
            f"input {value.name!r} declares no shape",
            f"give one with --shape {value.name}=1,3,224,224, or an array with --input",
        )
    return tuple(d if isinstance(d, int) else sizes.get(d, 1) for d in value.shape)


def _fit(name: str, array: np.ndarray, value: Value) -> np.ndarray:
    check_shape(name, array.shape, value, "--input")
    want = value.dtype
    if want is DType.STRING:
        return array
    if want.is_float:
        if array.dtype.kind not in "fiuV":
            raise InputError(
                f"input {name!r} must hold {want.value}; the array holds {array.dtype}"
            )
        with np.errstate(over="ignore"):
            fitted = array.astype(want.np)
        bad = np.argwhere(~np.isfinite(fitted.astype(np.float64)))
        if len(bad):
            raise InputError(
                f"input {name!r} holds NaN or infinity, first at {[int(i) for i in bad[0]]}",
                "a derivative there means nothing; clean the data first",
            )
        return fitted
    if array.dtype != want.np:
        if (
            array.dtype.kind in "iu"
            and want.is_integer
            and np.array_equal(array.astype(want.np), array)
        ):
            return array.astype(want.np)
        raise InputError(
            f"input {name!r} must hold {want.value}; the array holds {array.dtype}",
            f"convert it with numpy's .astype({want.value!r})",
        )
    return array


def check_shape(name: str, shape: tuple[int, ...], value: Value, option: str) -> None:
    """Hold a shape against what the model declares.

    Raises:
        InputError: When it does not fit, naming the option it came by.
    """
    if value.shape is None:
        return
    fits = len(shape) == len(value.shape) and all(
        not isinstance(d, int) or d == s for d, s in zip(value.shape, shape, strict=False)
    )
    if not fits:
        want = "[" + ", ".join(map(str, value.shape)) + "]"
        raise InputError(
            f"{option}: input {name!r} has shape {list(shape)}; the model wants {want}",
        )
