"""What every engine answers, and what several of them share."""

from gradcli.engines.base.linearised import Linearised
from gradcli.engines.base.outcome import Outcome, Times
from gradcli.engines.base.program import (
    Arrays,
    Engine,
    Estimate,
    Images,
    Map,
    Options,
    Probes,
    Program,
    chunk_width,
    compile_graph,
)

__all__ = [
    "Arrays",
    "Engine",
    "Estimate",
    "Images",
    "Linearised",
    "Map",
    "Options",
    "Outcome",
    "Probes",
    "Program",
    "Times",
    "chunk_width",
    "compile_graph",
]
