"""`gradcli completion`: the script that completes gradcli's commands in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from gradcli.cli import screen
from gradcli.errors import InternalError

VARIABLE = "_GRADCLI_COMPLETE"
"""By this variable a shell asks for completions."""


@click.command("completion", short_help="Print what completes gradcli's commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, methods, files, and the names of a model's
    tensors in SHELL.

    \b
    Examples:
      eval "$(gradcli completion bash)"       # in ~/.bashrc
      eval "$(gradcli completion zsh)"        # in ~/.zshrc
      gradcli completion fish | source        # in ~/.config/fish/config.fish
    """  # noqa: D205, D301 # click shows it as the help
    found = get_completion_class(shell)
    if found is None:
        raise InternalError(f"click completes nothing in {shell}")
    # Not `source()`: for bash that would run bash to see how old it is.
    made = found(ctx.find_root().command, {}, "gradcli", VARIABLE)
    screen.show(made.source_template % made.source_vars())
