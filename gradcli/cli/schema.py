"""`gradcli schema`: the JSON Schema of a report."""

from __future__ import annotations

from importlib.resources import files

import click

from gradcli.cli import screen

SCHEMAS = ("compare", "jsonl", "grad", "diff")


@click.command("schema", short_help="Print the JSON Schema of a report.")
@click.argument("name", type=click.Choice(SCHEMAS))
@click.option("-o", "--output", metavar="FILE", type=click.Path(), help="Write it to a file.")
def command(name: str, output: str | None) -> None:
    """Print the JSON Schema (draft 2020-12) of what a command writes as JSON.

    NAME is `compare` for the JSON of compare, `jsonl` for a line of its JSON Lines, `grad` or
    `diff`.

    \b
    Examples:
      gradcli schema compare
      gradcli schema jsonl -o line.schema.json
    """  # noqa: D301 # click shows it as the help
    text = files("gradcli").joinpath("report", "schema", f"{name}.json").read_text("utf-8")
    with screen.sink(output) as sink:
        screen.deliver(text, sink, output)
