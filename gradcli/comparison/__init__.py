"""Outcomes and a reference in, a Comparison out: errors, verdicts, causes, advice. No clocks."""

from gradcli.comparison.blame import explained, explanation_of, focus_of
from gradcli.comparison.elements import elements_of
from gradcli.comparison.facts import (
    Advice,
    At,
    Blame,
    Block,
    Cause,
    Comparison,
    Explanation,
    Formula,
    Judgement,
    Jump,
    KinkAt,
    Part,
    Primal,
    Reference,
    Room,
    Subject,
    Sweep,
    SweepPoint,
    Verdict,
    What,
    Worst,
)
from gradcli.comparison.field import FLOOR, MARGIN, RTOL
from gradcli.comparison.judge import AtKink, judge, name_nodes
from gradcli.comparison.method import described
from gradcli.comparison.points import worst_of
from gradcli.comparison.policy import UNDECIDED, Inconclusive, Policy, Standing, undecided
from gradcli.comparison.primal import hold_primal

__all__ = [
    "FLOOR",
    "MARGIN",
    "RTOL",
    "UNDECIDED",
    "Advice",
    "At",
    "AtKink",
    "Blame",
    "Block",
    "Cause",
    "Comparison",
    "Explanation",
    "Formula",
    "Inconclusive",
    "Judgement",
    "Jump",
    "KinkAt",
    "Part",
    "Policy",
    "Primal",
    "Reference",
    "Room",
    "Standing",
    "Subject",
    "Sweep",
    "SweepPoint",
    "Verdict",
    "What",
    "Worst",
    "described",
    "elements_of",
    "explained",
    "explanation_of",
    "focus_of",
    "hold_primal",
    "judge",
    "name_nodes",
    "undecided",
    "worst_of",
]
