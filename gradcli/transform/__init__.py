"""Graph in, graph out: derivatives, batching, specialising, simplifying and tuning."""

from gradcli.transform.cast import cast
from gradcli.transform.derivative import Derivative
from gradcli.transform.expand import expand, written_out
from gradcli.transform.expose import Element, depends, expose
from gradcli.transform.jvp import jvp
from gradcli.transform.simplify import simplify
from gradcli.transform.specialise import specialise
from gradcli.transform.tune import tune
from gradcli.transform.vjp import vjp
from gradcli.transform.vmap import vmap

__all__ = [
    "Derivative",
    "Element",
    "cast",
    "depends",
    "expand",
    "expose",
    "jvp",
    "simplify",
    "specialise",
    "tune",
    "vjp",
    "vmap",
    "written_out",
]
