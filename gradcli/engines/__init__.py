"""The methods: one file each, joined into a plain table."""

from gradcli.engines import complex_step, finite, forward, reverse, symbolic
from gradcli.engines.base import Engine, Estimate, Options, Probes, Program
from gradcli.engines.conventions import conventions
from gradcli.engines.finite import one_sided

ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        forward.ENGINE,
        reverse.ENGINE,
        symbolic.ENGINE,
        symbolic.PLAIN,
        finite.FORWARD,
        finite.CENTRAL_DIFFERENCE,
        finite.LADDER,
        complex_step.ENGINE,
    )
}
"""Every method by name, in the order of reports."""

__all__ = [
    "ENGINES",
    "Engine",
    "Estimate",
    "Options",
    "Probes",
    "Program",
    "conventions",
    "one_sided",
]
