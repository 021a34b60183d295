"""`gradcli sample`: the bundled models."""

from __future__ import annotations

import re
from pathlib import Path

import click

import gradcli
from gradcli.cli import screen
from gradcli.errors import InternalError, OutputError, UsageError


def folder() -> Path:
    """Where the models are: inside the installed package, or beside it in a checkout.

    Raises:
        InternalError: When they are in neither place.
    """
    package = Path(gradcli.__file__).resolve().parent
    for place in (package / "sample_models", package.parent / "sample_models"):
        if (place / "PROVENANCE.md").is_file():
            return place
    raise InternalError("the sample models are missing from this installation")


def descriptions(place: Path) -> dict[str, str]:
    """What each model is, by name, from the table of their provenance."""
    text = (place / "PROVENANCE.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| (\S+)\.onnx \| (.*?) \|", text, re.MULTILINE))


@click.command("sample", short_help="List the bundled models, or write one out.")
@click.argument("name", required=False)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="A directory, or the .onnx file to write; the .npz goes beside it. [default: here]",
)
def command(name: str | None, output: str | None) -> None:
    """List the bundled models, or write the model NAME and an input for it.

    \b
    Examples:
      gradcli sample
      gradcli sample physics -o .
    """  # noqa: D301 # click shows it as the help
    place = folder()
    found = descriptions(place)
    if name is None:
        if output is not None:
            raise UsageError("-o needs the NAME of a sample model", f"one of {', '.join(found)}")
        screen.show(_listing(found))
        return
    if name not in found:
        raise UsageError(f"there is no sample model {name!r}", f"there are: {', '.join(found)}")
    model, data = _targets(name, output)
    with screen.sink(str(model)) as model_sink, screen.sink(str(data)) as data_sink:
        for target, suffix in ((model, ".onnx"), (data, ".npz")):
            _refuse_other(target, (place / name).with_suffix(suffix).read_bytes())
        model_sink.write((place / f"{name}.onnx").read_bytes())
        data_sink.write((place / f"{name}.npz").read_bytes())
    screen.show(f"wrote {model} and {data}\ntry: gradcli compare {model} --input {data}\n")


def _listing(found: dict[str, str]) -> str:
    import textwrap

    lines = []
    for name, what in sorted(found.items()):
        lines += textwrap.wrap(f"{name:<11}{what}", screen.width(), subsequent_indent=" " * 11)
    return "\n".join([*lines, "", "Write one out: gradcli sample NAME", ""])


def _targets(name: str, output: str | None) -> tuple[Path, Path]:
    """Where the model and its input go."""
    target = Path(output or ".")
    if target.suffix != ".onnx" or target.is_dir():
        target = target / f"{name}.onnx"
    return target, target.with_suffix(".npz")


def _refuse_other(target: Path, content: bytes) -> None:
    """A file that is there already, and is not the one to be written, is somebody's own."""
    if target.exists() and target.read_bytes() != content:
        raise OutputError(
            f"{target}: is there already, with other content", "move it, or choose another -o PATH"
        )
