"""`gradcli inspect`: what a model is made of, without running it."""

from __future__ import annotations

import click

from gradcli.cli import screen
from gradcli.cli.options import load


@click.command("inspect", short_help="Say what a model is made of, and where its derivative dies.")
@click.argument("model", metavar="MODEL", type=click.Path())
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    help="[default: by the suffix of -o, else text]",
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(), help="Write it to a file.")
def command(model: str, form: str | None, output: str | None) -> None:
    """Say what MODEL is made of: inputs, outputs, opsets and sizes; its operators, each smooth,
    kinked, flat, opaque or unknown; with respect to which inputs it can be differentiated, and
    where and why a derivative ends. Nothing is run.

    MODEL is an .onnx file, or '-' for stdin.

    \b
    Examples:
      gradcli inspect model.onnx
    """  # noqa: D205, D301 # click shows it as the help
    from gradcli.cli.files import Stdin
    from gradcli.inspection import inspect
    from gradcli.report import inspection_json, inspection_text

    with screen.sink(output) as sink:
        with screen.progress("reading the model") as tell:
            loaded = load(model, Stdin())
            tell("looking at its nodes")
            found = inspect(loaded)
        as_json = form == "json" or (form is None and screen.is_json(output))
        if as_json:
            text = inspection_json(found)
        else:
            color = screen.colored() and output in (None, "-")
            text = inspection_text(found, width=screen.width(), color=color)
        screen.deliver(text, sink, output)
