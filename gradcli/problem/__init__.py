"""What is differentiated, with respect to what, at which point."""

from gradcli.problem.arrays import (
    DRAWN,
    check_directions,
    check_feeds,
    check_shape,
    declared,
    open_dims,
)
from gradcli.problem.posing import JACOBIAN_ENTRIES, JACOBIAN_ROWS, OPERATORS, machine_memory, pose
from gradcli.problem.question import Key, Problem, static

__all__ = [
    "DRAWN",
    "JACOBIAN_ENTRIES",
    "JACOBIAN_ROWS",
    "OPERATORS",
    "Key",
    "Problem",
    "check_directions",
    "check_feeds",
    "check_shape",
    "declared",
    "machine_memory",
    "open_dims",
    "pose",
    "static",
]
