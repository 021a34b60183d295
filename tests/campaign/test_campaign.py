"""The verdict as a classifier: a short campaign by default, a longer one as `slow`."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from gradcli.comparison import Verdict
from gradcli.problem import Problem
from tests.campaign.faults import GUILTY, KINDS, Fault, chosen, kinds_at, wanted
from tests.campaign.named import RIGHT
from tests.campaign.pairs import drawn
from tests.campaign.tally import mistakes, report, unnamed
from tests.campaign.trials import FELT, Trial, trial

pytest.importorskip("flint", reason="needs python-flint, which an extra brings")

STAGES = tuple(GUILTY)


def campaign(seed: int, pairs: int, faults: int) -> tuple[list[Trial], list[Trial]]:
    sound = [trial(seed, k, faulty=False) for k in range(pairs)]
    faulty = [trial(seed, k, faulty=True) for k in range(faults)]
    return sound, faulty


def inconclusive(sound: list[Trial], width: str) -> float:
    """The share of (method, pair) off kinks, in problems of this width."""
    said = [
        s.verdict == Verdict.INCONCLUSIVE
        for t in sound
        if not t.kinked and t.matched and any(width == u.dtype for u in t.said[:1])
        for s in t.said
    ]
    return float(np.mean(said))


def test_a_short_campaign_makes_no_mistake():
    sound, faulty = campaign(0, 16, 32)
    assert mistakes([*sound, *faulty]) == []
    felt = [s for t in faulty for s in t.said if s.method in t.guilty and s.moved >= FELT]
    assert len(felt) >= 5
    assert all(s.verdict == Verdict.DISAGREE for s in felt)
    lines = "\n".join(report(sound, faulty))
    assert "guilty, 3 bands and more" in lines


PLACES = [(stage, kind) for stage in GUILTY for kind in kinds_at(stage)]


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return [drawn(np.random.default_rng([3, k])).posed() for k in range(40)]


@pytest.mark.parametrize(("stage", "kind"), PLACES)
def test_every_kind_of_fault_finds_a_place_at_every_stage_that_it_is_of(stage, kind, problems):
    rng = np.random.default_rng(0)
    problem, fault = next((p, f) for p in problems if (f := chosen(rng, p, [stage], [kind])))
    assert (fault.stage, fault.kind) == (stage, kind)
    fault.planted(problem)


def test_each_kind_of_fault_may_have_its_share():
    rng = np.random.default_rng(0)
    found = Counter(wanted(rng, STAGES) for _ in range(2000))
    assert set(found) == set(PLACES)
    kinds = Counter(kind for _, kind in found.elements())
    assert min(kinds.values()) > 0.7 * 2000 / len(KINDS)
    t = trial(0, 3, faulty=True, stages=["reverse"], even=True)
    again = np.random.default_rng([0, 3])
    drawn(again)
    assert (t.stage, t.kind) == wanted(again, ["reverse"])


def test_a_trial_can_be_had_again():
    first, second = (trial(5, 7, faulty=True) for _ in range(2))
    assert (first.pair, first.fault, first.said) == (second.pair, second.fault, second.said)


def test_a_fault_says_what_it_is():
    fault = Fault("shared", "x 1.01", "Tanh", 0)
    assert str(fault) == "x 1.01 in operand 0 of Tanh, shared"


RULES_AND_FILE = ("forward", "reverse", "shared", "symbolic", "runtime")


def explained(seed: int, faults: int) -> list[Trial]:
    made = (trial(seed, k, faulty=True, stages=RULES_AND_FILE, explain=True) for k in range(faults))
    return [t for t in made if t.named]


def test_explain_names_the_nodes_of_a_few_faults():
    asked = explained(8, 32)
    assert {t.stage for t in asked} >= {"forward", "symbolic", "runtime"}
    assert unnamed(asked) == []


@pytest.mark.parametrize(
    ("seed", "index", "stages"),
    [
        pytest.param(8, 172, (*RULES_AND_FILE, "symbolic"), id="a composite's own impl"),
        pytest.param(8, 214, (*RULES_AND_FILE, "symbolic"), id="a tie of a value with itself"),
        pytest.param(8, 153, (*RULES_AND_FILE, "symbolic"), id="a composite's kernel"),
        pytest.param(7, 8, RULES_AND_FILE, id="a rule of the reference only"),
    ],
)
def test_explain_names_the_node_of(seed: int, index: int, stages: tuple[str, ...]):
    t = trial(seed, index, faulty=True, stages=stages, explain=True)
    assert t.named == RIGHT, t


@pytest.mark.slow
def test_explain_names_the_nodes_of_nearly_all_faults():
    asked = explained(1, 700)
    assert len(asked) >= 400
    assert len(unnamed(asked)) <= 0.01 * len(asked), unnamed(asked)


@pytest.mark.slow
def test_a_long_campaign_makes_no_mistake_and_leaves_little_open():
    sound, faulty = campaign(1, 600, 400)
    assert mistakes([*sound, *faulty]) == []
    assert inconclusive(sound, "float64") <= 0.01
    assert inconclusive(sound, "float32") <= 0.1
