"""Measuring: the methods, their reference and its witness, run on a problem inside a budget."""

from gradcli.measure.blame import culprits
from gradcli.measure.clock import BUDGET, RUNS, WARMUP, timed
from gradcli.measure.gather import METHODS, Progress, measure
from gradcli.measure.primal import file_primal, rounding
from gradcli.measure.sample import ALONG, SAMPLE

__all__ = [
    "ALONG",
    "BUDGET",
    "METHODS",
    "RUNS",
    "SAMPLE",
    "WARMUP",
    "Progress",
    "culprits",
    "file_primal",
    "measure",
    "rounding",
    "timed",
]
