"""`gradcli compare`: every method, each judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import click

from gradcli.cli import screen
from gradcli.cli.completing import Known
from gradcli.cli.options import METHODS, Number, asked, question_options
from gradcli.cli.reports import Export, report_options, reports
from gradcli.cli.shell import INTERRUPTED, command_line, say


@click.command("compare", short_help="Differentiate by every method, and judge each.")
@question_options
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=Known(METHODS),
    metavar="NAME",
    help=f"Of {', '.join(METHODS)} (repeat it). [default: all]",
)
@click.option(
    "--rtol",
    type=Number(0),
    help="Relative tolerance. [default: 3e-3 for methods in float32, 1e-6 in float64,"
    " 3.7e-4 for finite-forward]",
)
@click.option("--atol", type=Number(0), default=0.0, show_default=True, help="Absolute tolerance.")
@click.option(
    "--runs",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Timed runs of each method, at most.",
)
@click.option(
    "--warmup", type=click.IntRange(0), default=1, show_default=True, help="Untimed runs first."
)
@click.option(
    "--budget",
    type=Number(0, above=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="For everything together. What does not fit is sampled, or skipped with the reason.",
)
@click.option(
    "--reference",
    type=click.Choice(["auto", "certified", "float64"]),
    default="auto",
    show_default=True,
    help="What methods are held against: enclosures of the exact derivative (needs python-flint),"
    " a confirmed float64 graph, or the first where it can be had in time.",
)
@click.option(
    "--at-kink",
    type=click.Choice(["report", "skip", "fail", "nudge"]),
    default="report",
    show_default=True,
    help="Elements whose one-sided derivatives differ: report them as KINK, skip them, fail with"
    " exit code 1, or nudge the point off its kinks first.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="Look at every node by itself: how much of the worst error comes from it, what it is, and"
    " what to do about it.",
)
@click.option(
    "--sweep",
    is_flag=True,
    help="Also draw the error of finite differences against their step, in float64; with --dtype"
    " float32 in that too.",
)
@report_options
def command(
    model: str,
    methods: tuple[str, ...],
    rtol: float | None,
    atol: float,
    step: float | None,
    runs: int,
    warmup: int,
    budget: float,
    reference: Literal["auto", "certified", "float64"],
    at_kink: Literal["report", "skip", "fail", "nudge"],
    explain: bool,
    sweep: bool,
    detail: Literal["quiet", "normal", "verbose"] | None,
    failures_only: bool,
    form: str | None,
    output: str | None,
    exports: tuple[Export, ...],
    inconclusive: Literal["fail", "warn", "ok"] | None,
    exit_zero: bool,
    **question: Any,
) -> int:
    """Take the derivative of MODEL's output with respect to its input by several methods, and hold
    each against a reference that a witness without differentiation rules has confirmed.

    MODEL is an .onnx file, or '-' for stdin.

    \b
    Examples:
      gradcli compare model.onnx --input x.npy
      gradcli compare model.onnx --of 'y[0,0]' --method reverse --method finite
      gradcli compare model.onnx --input x.npy --explain -o report.json

    Exit codes: 0 the methods agree; 1 one disagrees; 2 an error in the command, the model or an
    input; 3 nothing could be decided (see --inconclusive); 130 interrupted, after what is done was
    told. --exit-zero makes 0 of 1 and 3.
    """  # noqa: D205, D301 # click shows it as the help
    from gradcli import api
    from gradcli.comparison import Policy
    from gradcli.report import Dress, shown

    settings = api.Settings(
        tuple(dict.fromkeys(methods)),
        rtol, atol, step, runs, warmup, budget, reference, at_kink, explain, sweep,
        narrow=question["dtype"] is not None,
    )  # fmt: skip
    policy = Policy(inconclusive, at_kink, exit_zero)
    dress = Dress(
        command_line(), policy, detail or "normal", failures_only, screen.width(), screen.colored()
    )
    with reports(form, output, exports, dress, shown) as written:
        settings = replace(settings, elements=written.pictured)
        interrupted = False
        try:
            with screen.progress("reading the model") as tell:
                warn = _in_the_report if written.tells_notes else say
                count, problems = asked(model, warn=warn, **question)
                comparison = api.judged_at(
                    count, problems, settings, progress=tell, so_far=written.keep
                )
        except api.Interrupted as error:
            comparison, interrupted = replace(error.comparison, exit_code=INTERRUPTED), True
        written.finish(comparison, in_haste=interrupted)
    if policy.of_whole(comparison) == "undecided":
        say("warning: nothing could be decided", "--inconclusive fail makes it exit code 3")
    if interrupted:
        say("interrupted")
    return policy.applied(comparison).exit_code


def _in_the_report(_: str) -> None:
    """What is a note of the report on stdout is not told on stderr besides."""
