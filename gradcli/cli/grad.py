"""`gradcli grad`: the derivative itself, by one method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcli.cli import screen
from gradcli.cli.completing import Known
from gradcli.cli.options import METHODS, asked, question_options
from gradcli.cli.shell import say
from gradcli.errors import GradcliError, UsageError

if TYPE_CHECKING:
    from gradcli.api import Derivative
    from gradcli.problem import Problem

FORMS = {".npy": "npy", ".npz": "npz", ".json": "json", ".txt": "text"}
"""Formats by the suffix of a file."""


@click.command("grad", short_help="Compute the derivative itself.")
@question_options
@click.option(
    "--method",
    default="reverse",
    type=Known(METHODS),
    show_default=True,
    metavar="NAME",
    help=f"One of {', '.join(METHODS)}.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["npy", "npz", "json", "text"]),
    help="[default: by the suffix of -o; text to a terminal; to a pipe .npz, or .npy if it is one]",
)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(), help="Write the derivative to a file."
)
def command(
    model: str,
    method: str,
    step: float | None,
    form: str | None,
    output: str | None,
    **question: Any,
) -> None:
    """Compute the derivative of MODEL's output with respect to its input, by one method.

    MODEL is an .onnx file, or '-' for stdin. In a .npz, arrays are named by wrt for a gradient and
    a vjp, by of for a jvp, and of/wrt for a Jacobian, whose arrays have the shape of of, then
    that of wrt; with --points each has a leading axis that counts them. The model's own output is
    checked against onnxruntime's first.

    \b
    Examples:
      gradcli grad model.onnx --input x.npy -o gradient.npz
      gradcli grad model.onnx --operator jacobian --dtype float64 --format text
      gradcli grad model.onnx --method complex-step --format json | head

    Exit codes: 0 done; 2 an error in the command, the model or an input; 3 the method cannot.
    """  # noqa: D301 # click shows it as the help
    from gradcli import api

    form = _form(form, output)
    api.engine(method)
    with screen.sink(output) as sink:
        with screen.progress("reading the model") as tell:
            problem, derivative = _derived(form, method, step, *asked(model, **question), tell)
        for note in derivative.notes:
            say(f"warning: {note}")
        in_file = output not in (None, "-")
        form = form or ("npy" if len(problem.keys) == 1 else "npz")
        if form == "text" and not in_file:
            screen.show(_text(derivative, whole=not screen.is_terminal()))
        else:
            sink.write(_bytes(form, problem, method, derivative))


def _derived(
    form: str | None,
    method: str,
    step: float | None,
    count: int,
    problems: Iterator[tuple[str, Problem]],
    tell: Callable[[str], None],
) -> tuple[Problem, Derivative]:
    """The derivative; at several points, each block with a leading axis that counts them."""
    import numpy as np

    from gradcli import api
    from gradcli.api import Derivative
    from gradcli.engines.base import Part

    found: list[Derivative] = []
    deriver = api.Deriver(method, step=step)
    for label, problem in problems:
        if form == "npy" and len(problem.keys) != 1:
            raise UsageError(
                f"a .npy file holds one array, and this derivative has {len(problem.keys)}",
                "choose --format npz or json, or fewer tensors with --wrt and --of",
            )
        tell(Part(f"{method}, by points", len(found) + 1, count) if count > 1 else method)
        try:
            found.append(deriver.derive(problem))
        except GradcliError as error:
            if count > 1:
                error.message = f"{label}: {error.message}"
            raise
    if count == 1 and not label:
        return problem, found[0]
    blocks = {key: np.stack([one.blocks[key] for one in found]) for key in found[0].blocks}
    notes = tuple(dict.fromkeys(note for one in found for note in one.notes))
    return problem, Derivative(blocks, found[0].dtype, notes)


def _form(form: str | None, output: str | None) -> str | None:
    """The format, as far as it is known before the derivative.

    Raises:
        UsageError: When the suffix of the file says nothing, or a terminal would get binary.
    """
    if output in (None, "-"):
        if form in ("npy", "npz") and screen.is_terminal():
            raise UsageError(f"a terminal cannot show .{form}", "write it to a file with -o FILE")
        return form or ("text" if screen.is_terminal() else None)
    suffix = Path(str(output)).suffix.lower()
    if form is None and suffix not in FORMS:
        raise UsageError(
            f"-o {output}: the suffix does not say which format to write",
            f"end it with {', '.join(FORMS)}, or add --format",
        )
    return form or FORMS[suffix]


def _text(derivative: Derivative, *, whole: bool) -> str:
    from gradcli.report import derivative_text

    return derivative_text(derivative.blocks, width=screen.width(), whole=whole)


def _bytes(form: str, problem: Problem, method: str, derivative: Derivative) -> bytes:
    from gradcli import api
    from gradcli.cli.files import npy_bytes, npz_bytes
    from gradcli.report import derivative_json

    if form == "npy":
        return npy_bytes(next(iter(derivative.blocks.values())))
    if form == "npz":
        return npz_bytes(api.by_name(derivative.blocks))
    if form == "text":
        return _text(derivative, whole=True).encode()
    assert problem.model is not None
    return derivative_json(
        path=problem.model.path,
        sha256=problem.model.sha256,
        operator=problem.operator,
        method=method,
        dtype=derivative.dtype,
        blocks=derivative.blocks,
        notes=(*problem.notes, *derivative.notes),
    ).encode()
