"""`python -m gradcli`, and the command `gradcli`: interrupted at any time, it ends quietly."""

# The C module under `signal`, which takes milliseconds for its enums: until `leave` is installed,
# Ctrl-C shows a traceback.
import _signal as signal  # type: ignore[import-not-found] # typeshed has no private modules

from gradcli.interruption import leave


def main() -> None:
    """Run the command line. While its modules load, Ctrl-C ends the process at once."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    from gradcli.cli import main as run

    run(prog_name="gradcli")


if __name__ == "__main__":
    main()
