"""The program `hubkeras`: `program` parses and runs, a file for each subject has the commands, `output` writes."""

from hubkeras.commands.program import main, parser

__all__ = ["main", "output", "parser"]
