"""`gradcli diff`: whether two models have the same derivatives."""

from __future__ import annotations

from typing import Any

import click

from gradcli.cli import screen
from gradcli.cli.options import Number, directions, operator_options, point, point_options


@click.command("diff", short_help="Say whether two models have the same derivatives.")
@point_options
@click.argument("other", metavar="OTHER", type=click.Path())
@operator_options
@click.option("--rtol", type=Number(0), help="Allowed beside rounding, of each largest element.")
@click.option("--atol", type=Number(0), default=0.0, show_default=True, help="Allowed as well.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    help="[default: by the suffix of -o, else table]",
)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(), help="Write the report to a file."
)
def command(
    model: str,
    inputs: tuple[str, ...],
    image: str | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    other: str,
    tangent: str | None,
    cotangent: str | None,
    form: str | None,
    output: str | None,
    **question: Any,
) -> int:
    """Say whether OTHER, an optimised, quantised, converted or re-exported copy of MODEL, still has
    MODEL's outputs and derivatives, and if not, at which node they part.

    \b
    Examples:
      gradcli diff model.onnx optimised.onnx --input x.npy
      gradcli diff model.onnx optimised.onnx --format json -o diff.json

    Exit codes: 0 the same, but for rounding; 1 not the same; 2 an error in the command, a model or
    an input; 3 it cannot be said.
    """  # noqa: D205, D301 # click shows it as the help
    from gradcli import api
    from gradcli.cli.files import Stdin
    from gradcli.report import contrast_json, contrast_text

    with screen.sink(output) as sink:
        with screen.progress("reading the models") as tell:
            stdin = Stdin()
            loaded, feeds = point(model, inputs, image, stdin)
            found = api.diff(
                loaded,
                api.load(other),
                feeds,
                shapes=dict(shapes),
                tangent=directions(tangent, "--tangent", stdin),
                cotangent=directions(cotangent, "--cotangent", stdin),
                progress=tell,
                **question,
            )
        if form == "json" or (form is None and screen.is_json(output)):
            text = contrast_json(found)
        else:
            color = screen.colored() and output in (None, "-")
            text = contrast_text(found, width=screen.width(), color=color)
        screen.deliver(text, sink, output)
    return found.exit_code
