"""Outcomes and a reference in, a Comparison out: errors, verdicts, causes, advice. No clocks."""

from gradcli.comparison.facts import (
    Advice,
    Cause,
    Comparison,
    Judgement,
    Jump,
    KinkAt,
    Part,
    Primal,
    Reference,
    Room,
    Subject,
    Verdict,
    Worst,
)
from gradcli.comparison.field import FLOOR, MARGIN, RTOL
from gradcli.comparison.judge import AtKink, judge, name_nodes
from gradcli.comparison.primal import hold_primal

__all__ = [
    "FLOOR",
    "MARGIN",
    "RTOL",
    "Advice",
    "AtKink",
    "Cause",
    "Comparison",
    "Judgement",
    "Jump",
    "KinkAt",
    "Part",
    "Primal",
    "Reference",
    "Room",
    "Subject",
    "Verdict",
    "Worst",
    "hold_primal",
    "judge",
    "name_nodes",
]
