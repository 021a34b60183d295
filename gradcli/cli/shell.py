"""How every command starts and ends: imported on use, and with an exit code that has a meaning."""

from __future__ import annotations

import difflib
import errno
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import click

from gradcli.cli.screen import inert
from gradcli.errors import GradcliError, UsageError
from gradcli.interruption import CODE, leave

SCREEN = 1800
"""Characters of an error message: what fits a screen."""

GIVEN = "gradcli.arguments"
"""Where click's context keeps the command line as it was given."""

INTERRUPTED = CODE
INTERNAL = 70

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a disk without room answers."""

USAGE = 2


class Command(NamedTuple):
    """A command that is not imported yet."""

    module: str
    """Where it is, as `command`."""
    summary: str
    """Its line in the help of the whole."""


class PipeClosedError(Exception):
    """Whoever read our output has left."""


class Shell(click.Group):
    """The group of all commands.

    Args:
        commands_by_name: Modules to import on use, by command name.
        settings: See click.Group.
    """

    def __init__(self, commands_by_name: Mapping[str, Command], **settings: Any) -> None:
        super().__init__(**settings)
        self._lazy = commands_by_name

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's signature
        """Names, without importing anything."""
        return list(self._lazy)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 # click's signature
        cmd_name: str,
    ) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self._lazy:
            return None
        command = import_module(self._lazy[cmd_name].module).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; whoever names none, or a model first, is told what to type.

        Raises:
            UsageError: When there is no such command.
        """
        name = args[0]
        if name in self._lazy or name.startswith("-"):
            return super().resolve_command(ctx, args)
        if name.endswith(".onnx") or Path(name).is_file():
            given = " ".join(map(_quoted, args))
            raise UsageError(
                f"a command goes before the model {name}",
                f"gradcli compare {given}    judges every method\n"
                f"      gradcli grad {given}    computes the derivative",
            )
        near = difflib.get_close_matches(name, self._lazy, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(self._lazy)}"
        raise UsageError(f"No such command {name!r}", hint)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 # click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """The list in the help, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self._lazy.items()])

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse. Help and version are printed in here."""
        with _closed_pipes_apart():
            return super().make_context(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, and keep the command line as it was."""
        ctx.meta[GIVEN] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _closed_pipes_apart():
            return super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "gradcli",
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run and exit; see `status` for the codes."""

        def run() -> Any:
            return super(Shell, self).main(
                args, prog_name, complete_var, standalone_mode=False, **extra
            )

        if not standalone_mode:
            return run()
        sys.exit(status(run))


@contextmanager
def _closed_pipes_apart() -> Iterator[None]:
    # click would turn it into exit 1, which says that a method disagrees.
    try:
        yield
    except BrokenPipeError as error:
        raise PipeClosedError from error


def status(run: Callable[[], Any]) -> int:
    """Run a command and turn however it ends into an exit code, and a screen on stderr."""
    interrupts: list[int] = []
    try:
        with _counted(interrupts):
            result = run()
            code = result if isinstance(result, int) else 0
            flush()
    except (PipeClosedError, BrokenPipeError):
        _silence()
        return 0
    except click.Abort:
        say("interrupted")
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        # Some of click's own errors exit with 1.
        return USAGE
    except GradcliError as error:
        _refuse(error)
        return error.exit_code
    except OSError as error:
        if error.errno not in FULL:
            _bug(error)
            return INTERNAL
        _silence()
        say(
            f"error: the output cannot be written ({error.strerror})", "make room, or choose a file"
        )
        return USAGE
    except MemoryError:
        say("error: this does not fit into memory", "ask for less at once with --wrt and --of")
        return USAGE
    except Exception as error:  # noqa: BLE001 # whatever it is, exit 1 means something else
        if interrupts:
            # Compiled modules that are interrupted while they load raise what they like.
            say("interrupted")
            return INTERRUPTED
        _bug(error)
        return INTERNAL
    return code


@contextmanager
def _counted(interrupts: list[int]) -> Iterator[None]:
    """Within it, every Ctrl-C is put on a list before it is raised."""
    before = signal.getsignal(signal.SIGINT)
    if before not in (signal.default_int_handler, leave):
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    try:
        signal.signal(signal.SIGINT, interrupt)
    except ValueError:  # only the main thread may
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def say(message: str, hint: str = "") -> None:
    """Tell something on stderr, safely: no control character reaches a terminal."""
    lines = f"gradcli: {message}"
    if hint:
        lines += f"\nhint: {hint}"
    if len(lines) > SCREEN:
        lines = f"{lines[: SCREEN // 2]} [...] {lines[-SCREEN // 2 :]}"
    safe = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in lines)
    click.echo(inert(safe), err=True)


def command_line() -> str:
    """The command that runs, in one line of printable characters that a POSIX shell reads back."""
    given = click.get_current_context().meta[GIVEN]
    return " ".join(map(_quoted, ("gradcli", *given)))


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    # $'...' of bash, zsh and POSIX.1-2024: no control character of a name reaches a report.
    codes = (
        chr(b) if chr(b) not in "'\\" and 32 <= b < 127 else f"\\{b:03o}" for b in os.fsencode(word)
    )
    return f"$'{''.join(codes)}'"


def flush() -> None:
    """Push out what was written, while an error can still be told."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _silence() -> None:
    """Let the interpreter's own flush at exit go nowhere."""
    try:
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        # No descriptor behind stdout: nothing will be flushed to one.
        return


def _refuse(error: GradcliError) -> None:
    if error.exit_code == INTERNAL:
        _bug(error)
    else:
        say(f"error: {error.message}", error.hint)


def _bug(error: Exception) -> None:
    if os.environ.get("GRADCLI_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    where = ""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is not None:
        code = trace.tb_frame.f_code
        where = f", in {code.co_name} ({Path(code.co_filename).name}, line {trace.tb_lineno})"
    say(
        f"internal error: {type(error).__name__}: {error}{where}",
        "this is a bug in gradcli, not in your model or command. Please report it with the command"
        " line, the message above and `gradcli --version`; GRADCLI_TRACEBACK=1 shows where it came"
        " from.",
    )
