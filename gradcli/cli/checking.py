"""One model of a configuration: asked, compared, and held against what it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from gradcli import api
from gradcli.checks import Entry
from gradcli.checks.baseline import (
    ASK_AGAIN,
    differences,
    forward,
    keep,
    question_of,
    speeds,
    timed,
    timed_in,
)
from gradcli.cli.options import ask
from gradcli.comparison import (
    Checked,
    Inconclusive,
    Policy,
    Snapshot,
    beside,
    changes,
    succeeded,
    uncompared,
)
from gradcli.comparison.baseline import FORWARD
from gradcli.errors import GradcliError, UsageError
from gradcli.onnxfile import printable
from gradcli.problem import Problem

AGAIN = 2
"""How often a cost that seems to have changed is measured again."""


def check(
    entry: Entry,
    before: Snapshot | None = None,
    *,
    keeping: bool = False,
    same_machine: bool = True,
    inconclusive: Inconclusive | None = None,
    exit_zero: bool = False,
    progress: Callable[[str], None] | None = None,
) -> tuple[Checked, Snapshot | None]:
    """Check one model; whatever is wrong with it is part of the answer.

    Args:
        entry: The model, and how.
        before: What it was, to be held against.
        keeping: Whether what it is now is to be saved, in the place of `before`; then changes are
            told and are no findings.
        same_machine: Whether costs in `before` are of this machine.
        inconclusive: Goes before the entry's own.
        exit_zero: Whether verdicts and findings are no failures.
        progress: Called with a few words before each step.

    Raises:
        KeyboardInterrupt: When somebody interrupted; nothing of this model is told.
    """
    start = time.perf_counter()
    name, path = printable(entry.name), printable(entry.path)
    now: Snapshot | None = None
    try:
        problem = posed(entry)
        if keeping and before is not None:
            asked = question_of(problem, entry.settings)
            before = None if differences(before.question, asked) else before
        elif before is not None:
            refuse_other(before, problem, entry.settings)
        settings = replace(entry.settings, elements=keeping or before is not None)
        comparison = api.judged(problem, settings, progress=progress)
        if settings.elements:
            now = keep(problem, settings, comparison, progress, before)
        policy = Policy(inconclusive or entry.inconclusive, settings.at_kink, exit_zero)
        checked = Checked(name, path, 0.0, comparison, policy)
        if before is not None and now is not None:
            took = timed(comparison, settings)
            now = _measured_again(problem, settings, before, now, took, same_machine, progress)
            found = changes(before, now, same_machine=same_machine)
            if keeping:  # it is what is wanted now, and no finding; but nobody overlooks it
                checked = replace(checked, said=tuple(f"saved anew: {c.text}" for c in found))
                now = succeeded(before, now) if same_machine else now
            else:
                said, lost = beside(before, now), uncompared(before, now)
                checked = replace(checked, changes=found, said=said, uncompared=lost)
    except GradcliError as error:
        checked = _refused(name, path, error.message, error.hint, error.exit_code)
    except MemoryError:
        hint = "ask for less at once with wrt and of"
        checked = _refused(name, path, "this does not fit into memory", hint, 2)
    return replace(checked, seconds=time.perf_counter() - start), now


def _refused(name: str, path: str, error: str, hint: str, code: int) -> Checked:
    return Checked(name, path, 0.0, error=error, hint=hint, code=code)


def posed(entry: Entry) -> Problem:
    """The question that an entry asks.

    Raises:
        GradcliError: When the model, an input or the question makes no sense.
    """
    return ask(
        entry.path,
        inputs=[f"{name}={path}" if name else path for name, path in entry.inputs],
        shapes=entry.shapes,
        tangent=entry.tangent,
        cotangent=entry.cotangent,
        warn=lambda _: None,  # the comparison's notes say it
        **entry.question,
    )


def refuse_other(before: Snapshot, problem: Problem, settings: api.Settings) -> None:
    """A baseline of another question says nothing of this one.

    Raises:
        UsageError: Which says in what they differ.
    """
    if other := differences(before.question, question_of(problem, settings)):
        raise UsageError(f"its baseline is of another question: {'; '.join(other)}", ASK_AGAIN)


def _measured_again(
    problem: Problem,
    settings: api.Settings,
    before: Snapshot,
    now: Snapshot,
    took: Mapping[str, float],
    same_machine: bool,
    progress: Callable[[str], None] | None,
) -> Snapshot:
    """With costs that seem to have changed measured again: once may have been chance."""
    for _ in range(AGAIN):
        found = changes(before, now, same_machine=same_machine)
        slow = {c.where for c in found if c.what == "speed"}
        if not slow:
            return now
        suspects = {name: seconds for name, seconds in took.items() if name in slow}
        again = speeds(problem, settings, suspects, progress, timed_in(before))
        methods = {
            name: replace(r, speed=again[name]) if name in again else r
            for name, r in now.methods.items()
        }
        passed = forward(problem, settings) if FORWARD in slow else now.forward
        now = replace(now, methods=methods, forward=passed)
    return now
