"""Measuring: the methods, their reference and its witness, run on a problem inside a budget."""

from gradcli.measure.blame import culprits
from gradcli.measure.certify import References
from gradcli.measure.clock import BUDGET, RUNS, WARMUP, Progress, timed
from gradcli.measure.explain import EXPLAINING, explain
from gradcli.measure.gather import METHODS, measure
from gradcli.measure.nudge import nudged
from gradcli.measure.primal import file_primal, rounding
from gradcli.measure.ratios import forward_ratio, percentile, ratios
from gradcli.measure.sample import ALONG, SAMPLE

__all__ = [
    "ALONG",
    "BUDGET",
    "EXPLAINING",
    "METHODS",
    "RUNS",
    "SAMPLE",
    "WARMUP",
    "Progress",
    "References",
    "culprits",
    "explain",
    "file_primal",
    "forward_ratio",
    "measure",
    "nudged",
    "percentile",
    "ratios",
    "rounding",
    "timed",
]
