"""Everything gradcli refuses, as types: each knows its exit code and what to do next."""

from __future__ import annotations


class GradcliError(Exception):
    """A failure that gradcli understands and a person can act on.

    Attributes:
        message: One plain sentence: what is wrong, and where (file, node, tensor or option).
        hint: What to do about it, or an empty string.
        exit_code: The process's exit status when this ends a command.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(GradcliError):
    """The command line or the call asks for something that makes no sense."""


class InputError(GradcliError):
    """An input file or array does not fit the model."""


class KernelError(InputError):
    """A kernel of a runtime refuses while it runs what the runtime had taken."""


class OutputError(GradcliError):
    """A result cannot be written where it was asked to go."""


class ModelError(GradcliError):
    """The model file cannot be read, is malformed, or breaks a budget."""


class UnfitError(ModelError):
    """A node of the model cannot take operands of these shapes."""


class UnsupportedError(GradcliError):
    """The model is fine, but gradcli has no card or no rule for something in it."""


class MissingExtraError(GradcliError):
    """An optional library is needed and absent; the hint is the line that installs it."""


class CannotError(GradcliError):
    """A method is out of its depth on this problem: a row in a comparison, exit 3 in `grad`."""

    exit_code = 3


class UndecidedError(CannotError):
    """Something hangs on a choice that arithmetic leaves open at this precision."""


class OutOfTimeError(CannotError):
    """An evaluation was stopped at its deadline."""

    def __init__(self) -> None:
        super().__init__("out of time", "raise --budget")


class InternalError(GradcliError):
    """An invariant of gradcli itself is broken: a bug of ours, never the user's fault."""

    exit_code = 70
