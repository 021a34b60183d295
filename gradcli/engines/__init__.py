"""The methods: one file each, joined into a plain table."""

from gradcli.engines import forward, reverse, symbolic
from gradcli.engines.base import Engine, Estimate, Options, Probes, Program

ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        forward.ENGINE,
        reverse.ENGINE,
        symbolic.ENGINE,
    )
}
"""Every method by name, in the order of reports."""

__all__ = ["ENGINES", "Engine", "Estimate", "Options", "Probes", "Program"]
