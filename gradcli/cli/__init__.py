"""The command line: parse, call, print, exit. Commands are imported on use."""

from __future__ import annotations

import click

from gradcli import __version__
from gradcli.cli.shell import Command, Shell

main = Shell(
    name="gradcli",
    help=(
        "Differentiate saved ONNX networks by several methods, each with its measured error, its"
        " measured cost and a verdict.\n\n"
        "\b\nStart with:\n"
        "  gradcli compare model.onnx                 judge every method, at a random input\n"
        "  gradcli compare model.onnx --input x.npy   ... at yours\n"
        "  gradcli grad model.onnx --input x.npy      print the derivative itself\n\n"
        "Exit codes: 0 the methods agree, 1 one disagrees, 2 the command, the model or an input is"
        " in error, 3 nothing could be decided, 70 an error inside gradcli, 130 interrupted."
    ),
    commands_by_name={
        "compare": Command("gradcli.cli.compare", "Differentiate by every method, and judge each."),
        "grad": Command("gradcli.cli.grad", "Compute the derivative itself."),
        "formula": Command(
            "gradcli.cli.formula", "Write the closed form of the output and its derivative."
        ),
        "export": Command("gradcli.cli.export", "Write the derivative as an ONNX model."),
        "diff": Command("gradcli.cli.diff", "Say whether two models have the same derivatives."),
        "check": Command(
            "gradcli.cli.check", "Check the models that a project's configuration names."
        ),
        "inspect": Command(
            "gradcli.cli.inspect", "Say what a model is made of, and where its derivative dies."
        ),
        "sample": Command("gradcli.cli.sample", "List the bundled models, or write one out."),
        "ops": Command("gradcli.cli.ops", "List the operators that gradcli knows."),
        "schema": Command("gradcli.cli.schema", "Print the JSON Schema of a report."),
        "completion": Command(
            "gradcli.cli.completion", "Print what completes gradcli's commands in a shell."
        ),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
main = click.version_option(__version__, prog_name="gradcli")(main)

__all__ = ["main"]
