"""`gradcli formula`: the closed form of the output and its derivative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gradcli.cli import screen
from gradcli.cli.options import ask, where_options

if TYPE_CHECKING:
    from gradcli.formulas import Form, Language

LANGUAGES = {".txt": "text", ".tex": "latex", ".py": "python", ".c": "c", ".jl": "julia"}
"""Languages by the suffix of a file."""


@click.command("formula", short_help="Write the closed form of the output and its derivative.")
@where_options
@click.option(
    "--lang",
    type=click.Choice(list(LANGUAGES.values())),
    help="[default: by the suffix of -o, else text]",
)
@click.option(
    "--form",
    type=click.Choice(["auto", "expanded", "matrix"]),
    default="auto",
    show_default=True,
    help="Every number (expanded), or tensors and layers by name (matrix). auto takes the first"
    " for programs and for networks of up to 64 parameters.",
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(), help="Write it to a file.")
def command(
    model: str,
    inputs: Sequence[str],
    image: str | None,
    shapes: Sequence[tuple[str, tuple[int, ...]]],
    wrt: Sequence[str],
    of: Sequence[str],
    lang: Language | None,
    form: Form,
    output: str | None,
) -> None:
    """Write the formula of MODEL's output and of its derivative with respect to its input: as text
    or LaTeX, or as a function in Python (NumPy alone), C99 or Julia, whose weights are the file's
    own to the last bit.

    MODEL is an .onnx file, or '-' for stdin. Inputs matter only where a shape hangs on them, or
    the way that control flow goes.

    \b
    Examples:
      gradcli formula model.onnx
      gradcli formula model.onnx --of 'y[0,3]' -o derivative.c
      gradcli formula model.onnx --form matrix --lang latex

    Exit codes: 0 done; 2 an error in the command, the model or an input; 3 the network is too
    large to be written out, or has no closed form.
    """  # noqa: D205, D301 # click shows it as the help, and reads its \b
    from gradcli import api
    from gradcli.formulas import formula

    with screen.sink(output) as sink:
        with screen.progress("reading the model") as tell:
            problem = ask(
                model,
                inputs=inputs,
                image=image,
                shapes=shapes,
                tangent=None,
                cotangent=None,
                wrt=wrt,
                of=of,
                operator="jacobian",
                drawn=False,
            )
            assert problem.model is not None
            source = api.source_of(problem.of, problem.wrt, problem.model.path)
            tell("writing the formula")
            text = formula(problem, lang or _language(output), form, source)
        screen.deliver(text, sink, output)


def _language(output: str | None) -> Language:
    from pathlib import Path

    suffix = Path(output).suffix.lower() if output else ""
    return LANGUAGES.get(suffix, "text")  # type: ignore[return-value] # the table has nothing else
