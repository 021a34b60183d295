"""Two models of one function: whether their derivatives are still the same, and where not."""

from gradcli.contrast.contrast import contrasted
from gradcli.contrast.facts import Block, Contrast, Departure
from gradcli.contrast.matching import Match, matched

__all__ = ["Block", "Contrast", "Departure", "Match", "contrasted", "matched"]
