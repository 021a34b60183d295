"""Derivatives as models: from a question to a file that is proven."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from gradcli import measure, onnxfile
from gradcli.api.asking import Given, Source, ask, load
from gradcli.api.deriving import hold_primal
from gradcli.engines import Estimate
from gradcli.errors import CannotError, OutputError, UsageError
from gradcli.exporting import Exported, Form, exported
from gradcli.measure.environment import environment
from gradcli.onnxfile import Model
from gradcli.problem import OPERATORS, Problem


def export(
    model: Source,
    path: str | os.PathLike[str] | None = None,
    *,
    operator: str,
    inputs: Given = None,
    wrt: str | Sequence[str] | None = None,
    of: str | Sequence[str] | None = None,
    dtype: str | None = None,
    primal: bool = False,
    per_row: bool = False,
    static: bool = False,
    tuned: bool = False,
    straight_through: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Exported:
    """A derivative as an ONNX model of its own, proven before it is written.

    Args:
        model: A path, the file's bytes, or a loaded model.
        path: Where to write it; None writes no file.
        operator: `gradient`, `jacobian`, `jvp` or `vjp`.
        inputs: The point at which it is proven, and at which control flow is decided; float inputs
            that are missing are drawn at random.
        wrt: What to differentiate with respect to; default: the float inputs.
        of: What to differentiate; default: the float outputs.
        dtype: `float32` or `float64`: the file's width; default: the model's own.
        primal: Whether the model's own outputs come too, before the derivative's.
        per_row: For a Jacobian of a batch: whether the batch is there once, as rows do not mix.
        static: Whether all shapes are fixed to those of the point.
        tuned: Whether it is written in the formulations that onnxruntime runs fastest; it is then
            not to be differentiated again.
        straight_through: See `compare`.
        shapes: Shapes of drawn inputs by name.
        seed: Of every random choice.
        progress: Called with a few words before each step.

    Returns:
        The file's bytes, and what was found out about it.

    Raises:
        CannotError: When the file does not hold against the model; nothing is written then.
        OutputError: When the file cannot be written.
    """
    loaded = load(model)
    if path is not None:
        spare(path, model, loaded)
    with nullcontext() if path is None else onnxfile.Place(path) as place:
        made = derived(
            loaded,
            operator,
            Form(primal, per_row, static, tuned),
            inputs,
            place,
            progress,
            wrt=wrt,
            of=of,
            dtype=dtype,
            straight_through=straight_through,
            shapes=shapes,
            seed=seed,
        )
        if place is not None:
            place.appear()
            onnxfile.put(made.data, place.path)
    return made


def derived(
    model: Model,
    operator: str,
    form: Form,
    inputs: Given,
    place: onnxfile.Place | None,
    progress: Callable[[str], None] | None = None,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    **asked: Any,
) -> Exported:
    """A derivative as a model that will lie in a place, not yet written. See `export`."""
    if operator not in OPERATORS:
        raise UsageError(f"there is no operator {operator!r}", f"choose {', '.join(OPERATORS)}")
    problem = ask(model, inputs, operator="jacobian", shapes=shapes, **asked)
    tell, version = progress or (lambda _: None), environment().gradcli
    tell("the model's own output")
    hold_primal(problem, Estimate({}), problem.feeds)

    def again(feeds: Mapping[str, np.ndarray]) -> Problem:
        return ask(model, dict(feeds), operator="jacobian", **asked)

    try:
        return exported(problem, operator, again, form, place, version, tell)
    except CannotError:
        # On a kink no witness has anything to say.
        beside = measure.nudged(problem) if set(problem.wrt) <= problem.feeds.keys() else problem
        if beside.point is problem.point:
            raise
        return exported(beside, operator, again, form, place, version, tell)


def spare(path: str | os.PathLike[str], source: Source, model: Model) -> None:
    """Refuse to write over a model, or over the files of its constants.

    Raises:
        OutputError: When the path is one of them.
    """
    read = onnxfile.data_files(model)
    if isinstance(source, str | os.PathLike):
        read.append(Path(source))
    targets = [file for file in (Path(path), onnxfile.beside(path)) if file.exists()]
    if any(file.exists() and target.samefile(file) for file in read for target in targets):
        raise OutputError(
            f"{onnxfile.printable(os.fspath(path))}: is the model itself, or holds its constants",
            "choose another name",
        )
