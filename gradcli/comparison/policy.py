"""What counts as a failure: of the whole in an exit code, of single methods in a CI's report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from gradcli.comparison.facts import Comparison, Judgement, Verdict
from gradcli.comparison.judge import AtKink

Inconclusive = Literal["fail", "warn", "ok"]
"""What a comparison that decided nothing counts as."""

Standing = Literal["passed", "undecided", "skipped", "failed", "broken"]
"""How something stands in a CI's report; broken is what ended in an error."""

UNDECIDED = (Verdict.INCONCLUSIVE, Verdict.STAIRCASE)
"""Verdicts that speak neither for a method nor against it."""

STANDINGS: dict[Inconclusive, Standing] = {"fail": "failed", "warn": "undecided", "ok": "passed"}
"""How what decided nothing stands."""


@dataclass(frozen=True)
class Policy:
    """What the user lets pass.

    Attributes:
        inconclusive: What a comparison that decided nothing counts as: `fail` ends with exit code
            3, `warn` and `ok` with 0, and `ok` has nothing to say of undecided methods either. None
            is `fail` where the judge says 3, because no witness could decide, and else `warn`.
        at_kink: With `fail`, a KINK is a failure.
        exit_zero: Whether the exit code is 0 whatever the verdict. Reports stay what they are, and
            a method that broke is still an error.
    """

    inconclusive: Inconclusive | None = None
    at_kink: AtKink = "report"
    exit_zero: bool = False

    def applied(self, comparison: Comparison) -> Comparison:
        """The comparison with the exit code that this makes of the judge's."""
        code = self.code(comparison.exit_code, undecided=undecided(comparison))
        return replace(comparison, exit_code=code)

    def code(self, code: int, *, undecided: bool) -> int:
        """The exit code that this makes of a judge's.

        Args:
            code: The judge's.
            undecided: Whether there was something to decide, and nothing was.
        """
        if undecided and code in (0, 3):
            code = 3 if self._level(code) == "fail" else 0
        return 0 if self.exit_zero and code in (1, 3) else code

    def standing(self, judgement: Judgement) -> Standing:
        """How one method stands."""
        if judgement.status == "failed":
            return "broken"
        if judgement.status == "skipped":
            return "skipped"
        if judgement.verdict is Verdict.DISAGREE:
            return "failed"
        if judgement.verdict is Verdict.KINK and self.at_kink == "fail":
            return "failed"
        if judgement.verdict in UNDECIDED and self.inconclusive != "ok":
            return "undecided"
        return "passed"

    def of_whole(self, comparison: Comparison) -> Standing:
        """How the whole stands beside its methods: for what none of them answers.

        Args:
            comparison: As judged, and not as `applied`.
        """
        if undecided(comparison):
            return self.of_undecided(comparison.exit_code)
        told = any(self.standing(judgement) == "failed" for judgement in comparison.methods)
        jumps = any(kink.active for kink in comparison.kinks)
        return "failed" if self.at_kink == "fail" and jumps and not told else "passed"

    def of_undecided(self, code: int) -> Standing:
        """How what decided nothing stands, by the judge's exit code."""
        return STANDINGS[self._level(code)]

    def _level(self, code: int) -> Inconclusive:
        return self.inconclusive or ("fail" if code == 3 else "warn")


def undecided(comparison: Comparison) -> bool:
    """Whether there was something to decide, and nothing was."""
    c = comparison
    asked = bool(c.reference.elements) or not c.primal.matches
    return c.verdict in UNDECIDED and asked
