"""The program `hubkeras`, also as `python -m hubkeras`: an interrupt before it can answer is answered here."""

import sys


def main() -> int:
    """Runs the command that was typed, and returns its exit status."""
    try:
        from hubkeras import commands

        return commands.main()
    except KeyboardInterrupt:  # while modules are imported, or what was typed is read
        print("hubkeras: interrupted; nothing is left half written.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
