"""A question answered by a file: written, read back, proven, at several sizes where it can."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np

from gradcli import onnxfile
from gradcli.engines.base import Part, rowwise
from gradcli.errors import CannotError, GradcliError, OutOfTimeError
from gradcli.exporting.derivative import Tensor
from gradcli.exporting.opening import Opened, opened
from gradcli.exporting.proof import DIRECTIONS, Proof, elsewhere_sized, prove
from gradcli.graph import size
from gradcli.onnxfile import Place
from gradcli.problem import Problem, machine_memory

Asker = Callable[[Mapping[str, np.ndarray]], Problem]
"""Puts the same question at other inputs."""


@dataclass(frozen=True)
class Form:
    """How a derivative is written.

    Attributes:
        primal: Whether the primal's outputs come too.
        per_row: Whether a Jacobian has the batch once.
        static: Whether all dimensions are fixed.
        tuned: Whether it is written for onnxruntime, in whatever runs fastest there.
    """

    primal: bool = False
    per_row: bool = False
    static: bool = False
    tuned: bool = False


@dataclass(frozen=True)
class Exported:
    """A derivative as a file.

    Attributes:
        data: The file's bytes.
        operator: `gradient`, `jacobian`, `jvp` or `vjp`.
        inputs: What its inputs are, in order.
        outputs: What its outputs are, in order.
        shapes: Of each of those, by name; open dimensions by their names.
        zero: Outputs that are 0 whatever the inputs are.
        shared: Tensors whose data stays in the files of the model.
        proof: How well it holds at the point.
        notes: What a user must know of it.
        beside: Bytes of constants that lie in a file beside it, as they are too many for one file.
    """

    data: bytes
    operator: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    shapes: Mapping[str, tuple[int | str, ...] | None]
    zero: tuple[str, ...]
    shared: tuple[str, ...]
    proof: Proof
    notes: tuple[str, ...]
    beside: int = 0


def exported(
    problem: Problem,
    operator: str,
    again: Asker,
    form: Form,
    place: Place | None,
    version: str,
    tell: Callable[[str], None] = lambda _: None,
) -> Exported:
    """The derivative of a problem's model as a file that holds.

    Args:
        problem: A Jacobian at a point, whatever is to be written.
        operator: What is to be written.
        again: Puts the question at other inputs.
        form: How it is written.
        place: Where the file will lie; None where it will not, and must hold all.
        version: gradcli's, for the file to say.
        tell: Called with a few words before each step.

    Raises:
        CannotError: When no file holds against the model.
        UnsupportedError: When there is no graph of the derivative.
    """
    if operator == "jacobian":
        _check_room(problem, form)
    rows = rowwise(problem.exact, problem.wrt, problem.table) is not None
    if form.per_row and not (operator == "jacobian" and rows):
        raise CannotError(
            "a Jacobian for each row needs a network that treats rows apart, and of this one that"
            " is not proven",
            "leave --per-row out: the Jacobian then has the batch twice",
        )
    problem = directed(problem, operator)
    missed = ""
    tell("the derivative's graph")
    for one in opened(
        problem,
        operator,
        with_primal=form.primal,
        per_row=form.per_row,
        static=form.static,
        tuned=form.tuned,
    ):
        data, shared = _written(problem, operator, one, form, place, version)
        folder = None if place is None else place.filled if place.size else place.folder
        file = onnxfile.read(data, problem.table, name="the derivative", folder=folder)
        proof = _proven(file, problem, operator, one, form, tell)
        if not proof.holds:
            missed = missed or proof.reason
            continue
        sized, also = _at_another_size(file, problem, operator, again, one, form, tell)
        if not sized:
            missed = missed or also
            continue
        if missed and not one.reason:
            also = f"{also}; {missed}"
        graph = one.made.graph
        return Exported(
            data,
            operator,
            one.made.inputs,
            one.made.outputs,
            {v.name: v.shape for v in (*graph.inputs, *graph.outputs)},
            one.made.zero,
            shared,
            proof,
            tuple(_notes(problem, operator, one, proof, form, rows, also)),
            0 if place is None else place.size,
        )
    raise CannotError(
        f"the derivative does not hold against the model, so that no file was written: {missed}",
        "gradcli compare --explain shows more; at a kink, give another point with --input",
    )


SHARE = 0.25
"""Of a machine's memory: what a Jacobian at the point may take, which is held several times."""


def _check_room(problem: Problem, form: Form) -> None:
    """Refuse a Jacobian that could not even be proven here.

    Raises:
        CannotError: When it is too large for this machine.
    """
    wide = sum(size(problem.shape(name)[int(form.per_row) :]) for name in problem.wrt)
    count = wide * sum(size(problem.shape(name)) for name in problem.of)
    if 8 * count > SHARE * machine_memory():
        raise CannotError(
            f"the Jacobian at this point has {count:,} elements, too many to be proven here",
            "export a jvp or vjp, or choose fewer elements with --of or --wrt",
        )


def directed(problem: Problem, operator: str) -> Problem:
    """The problem of a Jacobian as that of another operator, along random directions.

    Of a gradient as the vjp of ones, which it is.
    """
    if operator == "jacobian":
        return problem
    rng = np.random.default_rng(problem.seed)

    def drawn(names: Sequence[str]) -> dict[str, np.ndarray]:
        return {name: rng.standard_normal(problem.shape(name)) for name in names}

    if operator == "jvp":
        return replace(problem, operator="jvp", tangents=drawn(problem.wrt))
    ones = {name: np.ones(problem.shape(name)) for name in problem.of}
    bars = ones if operator == "gradient" else drawn(problem.of)
    return replace(problem, operator="vjp", cotangents=bars)


def _proven(
    file: onnxfile.Model,
    problem: Problem,
    operator: str,
    one: Opened,
    form: Form,
    tell: Callable[[str], None],
    directions: int = DIRECTIONS,
) -> Proof:
    return prove(
        file,
        problem,
        operator,
        one.made.inputs,
        one.made.outputs,
        per_row=form.per_row,
        directions=directions,
        tell=tell,
    )


def _at_another_size(
    file: onnxfile.Model,
    problem: Problem,
    operator: str,
    again: Asker,
    one: Opened,
    form: Form,
    tell: Callable[[str], None],
) -> tuple[bool, str]:
    """Whether the file holds with its open dimensions at other sizes, and what is to be said."""
    others = elsewhere_sized(problem, one.way)
    refused = []
    for k, feeds in enumerate(others):
        tell(Part("another size", k + 1, len(others)))
        try:
            other = directed(again(feeds), operator)
        except OutOfTimeError:
            raise
        except GradcliError as error:
            refused.append(error.message)  # the model itself does not take this size
            continue
        try:
            proof = _proven(file, other, operator, one, form, tell, 1)
        except OutOfTimeError:
            raise
        except GradcliError as error:
            return False, f"at another size: {error.message}"
        if not proof.holds:
            return False, f"at another size {proof.reason}"
    if others and len(refused) == len(others):
        return True, f"checked at one size only: the model takes no other ({refused[0]})"
    return True, ""


# ---- what the file says --------------------------------------------------------------------------


def _written(
    problem: Problem,
    operator: str,
    one: Opened,
    form: Form,
    place: Place | None,
    version: str,
) -> tuple[bytes, tuple[str, ...]]:
    assert problem.model is not None
    graph = one.made.graph
    shared = {} if place is None else onnxfile.stored(problem.model, graph, place.folder)
    # A file refers either to the model's data or to its own: it is read where its own still hides.
    own = {} if place is None else place.fill(graph, shared)
    shared = {} if own else shared
    data = onnxfile.write(
        graph,
        producer=f"gradcli {version}",
        doc=_doc(problem, operator, one, form, version),
        metadata=_metadata(problem, operator, one, form, version),
        stored=own or shared,
    )
    return data, tuple(v.name for v in shared)


def _doc(problem: Problem, operator: str, one: Opened, form: Form, version: str) -> str:
    assert problem.model is not None
    of, wrt = ", ".join(problem.of), ", ".join(problem.wrt)
    what = f"The {operator} of {of} with respect to {wrt}, of the model {_file_name(problem)}"
    said = [f"{what} (sha256 {problem.model.sha256}), by gradcli {version}."]
    said += [f"{text[0].upper()}{text[1:]}." for text in _conditions(problem, one)]
    if form.tuned:
        said.append("Its operators are those that onnxruntime runs fastest: do not differentiate.")
    if problem.straight_through:
        said.append("It is the straight-through estimator, a convention, and no derivative.")
    return " ".join(said)


def _file_name(problem: Problem) -> str:
    """Without its folder, which is nobody else's business."""
    assert problem.model is not None
    return PurePath(problem.model.path).name


def _metadata(
    problem: Problem, operator: str, one: Opened, form: Form, version: str
) -> dict[str, str]:
    model = problem.model
    assert model is not None
    names = {
        "inputs": _roles(one.made.inputs),
        "outputs": _roles(one.made.outputs),
    }
    facts: dict[str, object] = {
        "version": version,
        "operator": operator,
        "wrt": list(problem.wrt),
        "of": list(problem.of),
        "names": names,
        "model": _file_name(problem),
        "model_sha256": model.sha256,
        "model_graph": model.graph.name,
        "model_opset": model.opset,
        "dtype": problem.dtype.value,
        "tuned": form.tuned,
        "straight_through": problem.straight_through,
        "conditions": list(_conditions(problem, one)),
    }
    return {
        f"gradcli.{name}": fact if isinstance(fact, str) else json.dumps(fact)
        for name, fact in facts.items()
    }


def _roles(tensors: Sequence[Tensor]) -> list[dict[str, str]]:
    return [
        {k: v for k, v in (("name", t.name), ("role", t.role), ("of", t.of), ("wrt", t.wrt)) if v}
        for t in tensors
    ]


def _conditions(problem: Problem, one: Opened) -> list[str]:
    """What the file takes for granted, and the model does not."""
    found = []
    if one.fixed:
        sizes = ", ".join(f"{name} = {size}" for name, size in one.fixed.items())
        found.append(f"dimensions are fixed: {sizes}")
    if not one.way.integers:
        assert problem.model is not None
        names = [v.name for v in problem.model.graph.inputs if not v.dtype.is_float]
        found.append(f"{', '.join(names)} is fixed to what it is at the point")
    if one.choices:
        found.append("control flow goes the ways that it goes at the point")
    return found


def _notes(
    problem: Problem,
    operator: str,
    one: Opened,
    proof: Proof,
    form: Form,
    rows: bool,
    also: str,
) -> list[str]:
    notes = list(problem.notes)
    for condition in _conditions(problem, one):
        because = f", since {one.reason}" if one.reason and "fixed" in condition else ""
        notes.append(f"{condition}{because}; give another point with --input or --shape")
    assert problem.model is not None
    taken = {t.name for t in one.made.inputs}
    if idle := [v.name for v in problem.model.graph.inputs if v.name not in taken]:
        hangs = "nothing here hangs on it" if one.way.integers else "it is fixed"
        notes.append(f"{', '.join(idle)} is an input of the model and none of the file: {hangs}")
    if one.made.zero:
        notes.append(f"{', '.join(one.made.zero)} is 0 everywhere: no derivative flows there")
    if operator == "gradient" and one.many and not rows:
        notes.append(
            "of a batch this is the gradient of the sum: that rows do not mix is not proven"
        )
    if proof.is_rounding:
        notes.append(
            f"{problem.dtype.value} rounds much here: at the point the file is off by"
            f" {proof.error:.1e}, which its rounding explains; gradcli grad --dtype float64"
            " does better"
        )
    if form.tuned:
        notes.append("the file is tuned: differentiate one without --tuned again, not this one")
    return [*notes, *([also] if also else [])]
