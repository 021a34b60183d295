"""What every engine answers, and what several of them share."""

from gradcli.engines.base.alone import MISFIT, WRONG, LocalError
from gradcli.engines.base.certificate import Certificate
from gradcli.engines.base.enclosure import NARROW, Enclosure
from gradcli.engines.base.environment import UNKNOWN, Environment
from gradcli.engines.base.evidence import Evidence, Nearby, Rounding
from gradcli.engines.base.exactly import decide, suspects
from gradcli.engines.base.inner import cotangents, tangents
from gradcli.engines.base.jumps import at_jumps, jump_between
from gradcli.engines.base.linearised import AT_THE_EDGE, Linearised
from gradcli.engines.base.local import WrongRule, coarse_node, wrong_rule
from gradcli.engines.base.memory import Space
from gradcli.engines.base.nodeat import Focus, NodeAt
from gradcli.engines.base.outcome import Outcome, Times
from gradcli.engines.base.part import Part
from gradcli.engines.base.primal import EPS, Line, Point, Primal
from gradcli.engines.base.program import (
    CHUNK,
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
from gradcli.engines.base.reach import reaches
from gradcli.engines.base.rounding import COARSE, shake, shaken, spread
from gradcli.engines.base.rowwise import rowwise
from gradcli.engines.base.saved import as_saved
from gradcli.engines.base.sides import Fans, Sides
from gradcli.engines.base.swept import Swept
from gradcli.engines.base.tied import certainly, weigh
from gradcli.engines.base.unsteady import Unsteady, unsteady
from gradcli.engines.base.walk import Walk, walk, wrong_kernel
from gradcli.engines.base.watch import COUNT, Near, Reach, Survey, Tied, Watch, around, survey

__all__ = [
    "AT_THE_EDGE",
    "CHUNK",
    "COARSE",
    "COUNT",
    "EPS",
    "MISFIT",
    "NARROW",
    "UNKNOWN",
    "WRONG",
    "Arrays",
    "Certificate",
    "Enclosure",
    "Engine",
    "Environment",
    "Estimate",
    "Evidence",
    "Fans",
    "Focus",
    "Images",
    "Line",
    "Linearised",
    "LocalError",
    "Map",
    "Near",
    "Nearby",
    "NodeAt",
    "Options",
    "Outcome",
    "Part",
    "Point",
    "Primal",
    "Probes",
    "Program",
    "Reach",
    "Rounding",
    "Sides",
    "Space",
    "Survey",
    "Swept",
    "Tied",
    "Times",
    "Unsteady",
    "Walk",
    "Watch",
    "WrongRule",
    "around",
    "as_saved",
    "at_jumps",
    "certainly",
    "chunk_width",
    "coarse_node",
    "compile_graph",
    "cotangents",
    "decide",
    "jump_between",
    "reaches",
    "rowwise",
    "shake",
    "shaken",
    "spread",
    "survey",
    "suspects",
    "tangents",
    "unsteady",
    "walk",
    "weigh",
    "wrong_kernel",
    "wrong_rule",
]
