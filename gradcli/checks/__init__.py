"""What a project keeps about its models: which are checked, how, and what they were before."""

from gradcli.checks.baseline import Baseline, elsewhere, same_machine
from gradcli.checks.baseline import read as read_baseline
from gradcli.checks.baseline import to_text as baseline_text
from gradcli.checks.config import Config, Entry, find, read

__all__ = [
    "Baseline",
    "Config",
    "Entry",
    "baseline_text",
    "elsewhere",
    "find",
    "read",
    "read_baseline",
    "same_machine",
]
