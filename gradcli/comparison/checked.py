"""A model of a project, checked: how it compared, and what has changed since its baseline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gradcli.comparison.baseline import Change
from gradcli.comparison.facts import Comparison
from gradcli.comparison.policy import STANDINGS, Policy, Standing

GRAVITY = (0, 3, 1, 2, 70)
"""Exit codes, the gravest last."""


@dataclass(frozen=True)
class Checked:
    """What came of one model.

    Attributes:
        name: What the configuration calls it.
        path: The file, printable.
        seconds: That it took.
        comparison: What was found, as judged; None where it ended in an error.
        policy: What counts as a failure.
        error: That error in a sentence.
        hint: What to do about it.
        code: The exit code of that error.
        changes: Since the baseline.
        said: What else is to be said of the baseline.
        uncompared: Blocks of the derivative that it could not be held against, or not whole.
    """

    name: str
    path: str
    seconds: float
    comparison: Comparison | None = None
    policy: Policy = field(default_factory=Policy)
    error: str = ""
    hint: str = ""
    code: int = 0
    changes: tuple[Change, ...] = ()
    said: tuple[str, ...] = ()
    uncompared: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Of this model by itself."""
        if self.comparison is None:
            return self.code
        code = self.policy.applied(self.comparison).exit_code
        if self.held != "failed" or self.policy.exit_zero:
            return code
        return gravest((code, 1 if self.findings else 3))

    @property
    def held(self) -> Standing:
        """How it stands beside its baseline; what could not be compared is not decided."""
        if self.findings:
            return "failed"
        return STANDINGS[self.policy.inconclusive or "fail"] if self.uncompared else "passed"

    @property
    def findings(self) -> tuple[Change, ...]:
        """Changes that are failures."""
        return tuple(change for change in self.changes if change.fails)


@dataclass(frozen=True)
class Report:
    """All models that were checked.

    Attributes:
        config: The configuration, printable.
        models: In its order.
        left: Names of models that were not reached.
        baseline: The file that they were held against, or empty.
        elsewhere: In what the machine and libraries of that file differ from these.
        seconds: That everything took.
    """

    config: str
    models: tuple[Checked, ...]
    left: tuple[str, ...] = ()
    baseline: str = ""
    seconds: float = 0.0
    elsewhere: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The gravest of all."""
        return gravest(model.exit_code for model in self.models)


def gravest(codes: Iterable[int]) -> int:
    """The gravest of these exit codes; 0 where there is none."""
    return max(codes, key=GRAVITY.index, default=0)
