"""`gradcli diff`: whether two models have the same derivatives."""

from __future__ import annotations

from typing import Any, Literal

import click

from gradcli.cli import screen
from gradcli.cli.options import Number, directions, operator_options, point, point_options
from gradcli.cli.reports import Export, refuse_forms, report_options, reports
from gradcli.cli.shell import command_line, say


@click.command("diff", short_help="Say whether two models have the same derivatives.")
@point_options
@click.argument("other", metavar="OTHER", type=click.Path())
@operator_options
@click.option("--rtol", type=Number(0), help="Allowed beside rounding, of each largest element.")
@click.option("--atol", type=Number(0), default=0.0, show_default=True, help="Allowed as well.")
@report_options
def command(
    model: str,
    inputs: tuple[str, ...],
    image: str | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...],
    other: str,
    tangent: str | None,
    cotangent: str | None,
    detail: Literal["quiet", "normal", "verbose"] | None,
    failures_only: bool,
    form: str | None,
    output: str | None,
    exports: tuple[Export, ...],
    inconclusive: Literal["fail", "warn", "ok"] | None,
    exit_zero: bool,
    **question: Any,
) -> int:
    """Say whether OTHER, an optimised, quantised, converted or re-exported copy of MODEL, still has
    MODEL's outputs and derivatives, and if not, at which node they part.

    \b
    Examples:
      gradcli diff model.onnx optimised.onnx --input x.npy
      gradcli diff model.onnx optimised.onnx -q --export junit=diff.xml
      gradcli diff model.onnx optimised.onnx --rtol 0.01 -o diff.json

    Exit codes: 0 the same, but for rounding; 1 not the same; 2 an error in the command, a model or
    an input; 3 it cannot be said (see --inconclusive); 130 interrupted. --exit-zero makes 0 of 1
    and 3.
    """  # noqa: D205, D301 # click shows it as the help
    from gradcli import api
    from gradcli.cli.files import Stdin
    from gradcli.comparison import Policy
    from gradcli.report import CONTRAST_FORMATS, Dress, contrast_shown

    refuse_forms(form, output, exports, CONTRAST_FORMATS, "gradcli diff")
    policy = Policy(inconclusive, exit_zero=exit_zero)
    dress = Dress(
        command_line(), policy, detail or "normal", failures_only, screen.width(), screen.colored()
    )
    with reports(form, output, exports, dress, contrast_shown) as written:
        with screen.progress("reading the models") as tell:
            stdin = Stdin()
            loaded, feeds = point(model, inputs, image, shapes, stdin)
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
        written.finish(found)
    undecided = found.verdict == "UNDECIDED"
    if undecided and policy.of_undecided(found.exit_code) == "undecided":
        say("warning: nothing could be decided", "--inconclusive fail makes it exit code 3")
    return policy.code(found.exit_code, undecided=undecided)
