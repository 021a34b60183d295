"""`gradcli export`: a derivative as an ONNX model of its own."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import click

from gradcli.cli import screen
from gradcli.cli.options import dtype_option, point, point_options
from gradcli.cli.shell import say
from gradcli.errors import UsageError


@click.command("export", short_help="Write the derivative as an ONNX model.")
@point_options
@dtype_option
@click.option(
    "--operator",
    type=click.Choice(["gradient", "jacobian", "jvp", "vjp"]),
    required=True,
    help="What the model computes. A jvp takes tangents, a vjp cotangents, as inputs.",
)
@click.option(
    "--primal",
    is_flag=True,
    help="Let the model give MODEL's own outputs too, before the derivative.",
)
@click.option(
    "--per-row",
    is_flag=True,
    help="A Jacobian for each row of a batch, where rows do not mix: the batch is there once.",
)
@click.option(
    "--static",
    is_flag=True,
    help="Fix all shapes to those of the inputs. [default: what is open in MODEL stays open]",
)
@click.option(
    "--tuned",
    is_flag=True,
    help="Write what onnxruntime runs fastest. Such a model is not to be differentiated again.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="The .onnx file to write; '-' is stdout.",
)
def command(
    model: str,
    inputs: tuple[str, ...],
    image: str | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    operator: str,
    primal: bool,
    per_row: bool,
    static: bool,
    tuned: bool,
    output: str | None,
    **question: Any,
) -> None:
    """Write the derivative of MODEL's output with respect to its input as an ONNX model.

    MODEL is an .onnx file, or '-' for stdin. The tangent of x is called x_dot, its cotangent x_bar,
    a block of a Jacobian y/x; a gradient is the x_bar of its output. Before the file appears it is
    run in onnxruntime, and held against MODEL by a method without differentiation rules, at the
    inputs given or at random ones.

    \b
    Examples:
      gradcli export model.onnx --operator vjp -o vjp.onnx
      gradcli export model.onnx --operator jvp --tuned -o jvp.onnx

    Exit codes: 0 done; 2 an error in the command, the model or an input; 3 the file would not hold.
    """  # noqa: D301 # click shows it as the help
    from gradcli import api, onnxfile
    from gradcli.exporting import Form
    from gradcli.report import exported_text

    if output is None and screen.is_terminal():
        raise UsageError("a terminal cannot show a model", "write it to a file with -o FILE")
    in_file = None if output in (None, "-") else output
    with (
        screen.sink(output) as sink,
        nullcontext() if in_file is None else onnxfile.Place(in_file) as place,
    ):
        with screen.progress("reading the model") as tell:
            loaded, feeds = point(model, inputs, image, shapes)
            if in_file is not None:
                api.spare(in_file, model, loaded)
            made = api.derived(
                loaded,
                operator,
                Form(primal, per_row, static, tuned),
                feeds,
                place,
                tell,
                shapes=dict(shapes),
                **question,
            )
        for note in made.notes:
            say(f"warning: {note}")
        if place is not None:
            place.appear()
        sink.write(made.data)
    if in_file is not None:
        screen.show(exported_text(made, in_file, width=screen.width()))
