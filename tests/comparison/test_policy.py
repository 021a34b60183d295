from dataclasses import replace

import pytest

from gradcli.comparison import Comparison, Judgement, KinkAt, Policy, Reference, Verdict, undecided
from tests.report import examples

WHOLE = examples.smooth()
METHOD = WHOLE.methods[0]
KINK = KinkAt("relu", "Relu", (0,), 0.0, True, "0 at 0")


def ended(verdict: Verdict, code: int) -> Comparison:
    return replace(WHOLE, verdict=verdict, exit_code=code)


@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, Verdict.STAIRCASE])
@pytest.mark.parametrize(
    ("level", "judged", "code", "standing"),
    [
        (None, 3, 3, "failed"),
        (None, 0, 0, "undecided"),
        ("fail", 3, 3, "failed"),
        ("fail", 0, 3, "failed"),
        ("warn", 3, 0, "undecided"),
        ("warn", 0, 0, "undecided"),
        ("ok", 3, 0, "passed"),
        ("ok", 0, 0, "passed"),
        ("ok", 70, 70, "passed"),
        ("warn", 130, 130, "undecided"),
    ],
)
def test_what_a_comparison_that_decided_nothing_counts_as(verdict, level, judged, code, standing):
    policy, found = Policy(level), ended(verdict, judged)
    assert undecided(found)
    assert policy.applied(found).exit_code == code
    assert policy.of_whole(found) == standing


@pytest.mark.parametrize("level", [None, "fail", "warn", "ok"])
@pytest.mark.parametrize(
    ("verdict", "code"), [(Verdict.DISAGREE, 1), (Verdict.AGREE, 0), (Verdict.KINK, 0)]
)
def test_a_decided_one_is_what_it_is(level, verdict, code):
    found = ended(verdict, code)
    assert Policy(level).applied(found) == found
    assert Policy(level).of_whole(found) == "passed"


def test_of_a_derivative_without_elements_nothing_was_to_be_decided():
    nothing = replace(
        ended(Verdict.INCONCLUSIVE, 0), reference=Reference("none", "", 0, 0), methods=()
    )
    assert not undecided(nothing)
    assert Policy("fail").applied(nothing).exit_code == 0
    assert undecided(replace(nothing, primal=replace(WHOLE.primal, matches=False)))


@pytest.mark.parametrize(("judged", "code"), [(0, 0), (1, 0), (3, 0), (70, 70), (130, 130)])
def test_exit_zero_forgives_verdicts_and_not_errors(judged, code):
    verdict = {1: Verdict.DISAGREE, 3: Verdict.INCONCLUSIVE}.get(judged, Verdict.AGREE)
    found = Policy(exit_zero=True).applied(ended(verdict, judged))
    assert (found.exit_code, found.verdict) == (code, verdict)


@pytest.mark.parametrize(
    ("status", "verdict", "policy", "standing"),
    [
        ("computed", Verdict.AGREE, Policy(), "passed"),
        ("computed", None, Policy(), "passed"),
        ("computed", Verdict.DISAGREE, Policy("ok", exit_zero=True), "failed"),
        ("computed", Verdict.KINK, Policy(), "passed"),
        ("computed", Verdict.KINK, Policy(at_kink="fail"), "failed"),
        ("computed", Verdict.INCONCLUSIVE, Policy(), "undecided"),
        ("computed", Verdict.STAIRCASE, Policy("fail"), "undecided"),
        ("computed", Verdict.STAIRCASE, Policy("ok"), "passed"),
        ("skipped", None, Policy("fail"), "skipped"),
        ("failed", None, Policy("ok"), "broken"),
    ],
)
def test_how_a_method_stands(status, verdict, policy, standing):
    assert policy.standing(Judgement("m", status, verdict=verdict)) == standing


def test_a_kink_that_is_to_fail_and_that_no_method_shows_is_the_whole_s_fault():
    jumps = replace(WHOLE, kinks=(KINK,), exit_code=1)
    assert Policy(at_kink="fail").of_whole(jumps) == "failed"
    assert Policy().of_whole(jumps) == "passed"
    shown = replace(jumps, methods=(replace(METHOD, verdict=Verdict.KINK),))
    assert Policy(at_kink="fail").of_whole(shown) == "passed"
    idle = replace(jumps, kinks=(replace(KINK, active=False),))
    assert Policy(at_kink="fail").of_whole(idle) == "passed"
