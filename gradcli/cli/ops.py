"""`gradcli ops`: the operators that gradcli knows."""

from __future__ import annotations

import click

from gradcli.cli import screen

SUFFIXES = {".json": "json", ".md": "markdown"}


@click.command("ops", short_help="List the operators that gradcli knows.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown"]),
    help="[default: by the suffix of -o, else text]",
)
@click.option("-o", "--output", metavar="FILE", type=click.Path(), help="Write the list to a file.")
def command(form: str | None, output: str | None) -> None:
    """List every operator that gradcli has a card for: its kind, the operands through which
    derivatives flow, why others are flat, what is taken for the derivative at a kink, and the
    opsets whose forms are read.

    \b
    Examples:
      gradcli ops
      gradcli ops --format json
    """  # noqa: D205, D301 # click shows it as the help
    from pathlib import Path

    from gradcli.inspection import coverage
    from gradcli.report import coverage_json, coverage_markdown, coverage_text

    with screen.sink(output) as sink:
        known = coverage()
        form = form or SUFFIXES.get(Path(output or "").suffix.lower(), "text")
        if form == "json":
            text = coverage_json(known)
        elif form == "markdown":
            text = coverage_markdown(known)
        else:
            color = screen.colored() and output in (None, "-")
            text = coverage_text(known, width=screen.width(), color=color)
        screen.deliver(text, sink, output)
