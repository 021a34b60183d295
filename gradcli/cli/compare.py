"""`gradcli compare`: every method, each judged."""

from __future__ import annotations

from typing import Any, Literal

import click

from gradcli.cli import screen
from gradcli.cli.options import METHODS, Number, ask, question_options
from gradcli.cli.shell import INTERRUPTED, command_line, say


@click.command("compare", short_help="Differentiate by every method, and judge each.")
@question_options
@click.option(
    "--method",
    "methods",
    multiple=True,
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
@click.option("-q", "--quiet", "detail", flag_value="quiet", help="Only the headline.")
@click.option("-v", "--verbose", "detail", flag_value="verbose", help="All that is known.")
@click.option(
    "--failures-only",
    is_flag=True,
    help="Leave out methods that agree, and the advice.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    help="[default: by the suffix of -o, else table]",
)
@click.option("-o", "--output", metavar="FILE", help="Write the report to a file.")
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
    **question: Any,
) -> int:
    """Take the derivative of MODEL's output with respect to its input by several methods, and hold
    each against a reference that a witness without differentiation rules has confirmed.

    MODEL is an .onnx file, or '-' for stdin.

    Exit codes: 0 the methods agree; 1 one disagrees; 2 an error in the command, the model or an
    input; 3 nothing could be decided; 130 interrupted, after what is done was told.
    """  # noqa: D205 # click shows it as the help
    from gradcli import api
    from gradcli.report import comparison_json, table

    settings = api.Settings(
        methods, rtol, atol, step, runs, warmup, budget, reference, at_kink, explain, sweep,
        narrow=question["dtype"] is not None,
    )  # fmt: skip
    with screen.sink(output) as sink:
        problem = ask(model, **question)
        tell, done = screen.progress()
        interrupted = False
        try:
            comparison = api.judged(problem, settings, progress=tell)
        except api.Interrupted as error:
            comparison, interrupted = error.comparison, True
        finally:
            done()
        if form == "json" or (form is None and screen.is_json(output)):
            text = comparison_json(comparison, command=command_line())
        else:
            color = screen.colored() and output in (None, "-")
            text = table(
                comparison,
                width=screen.width(),
                color=color,
                detail=detail or "normal",
                failures_only=failures_only,
            )
        screen.deliver(text, sink, output)
    if interrupted:
        say("interrupted")
        return INTERRUPTED
    return comparison.exit_code
