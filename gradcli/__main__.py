"""`python -m gradcli`, and the command `gradcli`: interrupted at any time, it ends quietly."""

import signal

from gradcli.interruption import leave


def main() -> None:
    """Run the command line. While its modules load, Ctrl-C ends the process at once."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    from gradcli.cli import main as run

    run(prog_name="gradcli")


if __name__ == "__main__":
    main()
