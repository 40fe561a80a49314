"""The parser of the command line: argparse, whose errors name what was meant, and the help by groups."""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from hubkeras.commands.command import Command, Group, Options
from hubkeras.commands.output import flush, write
from hubkeras.common.errors import did_you_mean
from hubkeras.common.version import __version__

_MISTYPED = re.compile(r"unrecognized arguments: (-[\w-]+)|invalid choice: '?([^' ]+)'?")
_BEAM = "--beam"  # with it, what follows `--` are options of Apache Beam


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that suggests the nearest word for a mistyped command, option or choice."""

    def error(self, message: str) -> NoReturn:
        if match := _MISTYPED.search(message):
            option, choice = match.groups()
            known = self._option_string_actions if option else re.split(r"[', ]+", message.partition("choose from")[2])
            message += did_you_mean(option or choice, [word.strip("()") for word in known])
        super().error(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Writes help, the version or usage; argparse says nothing where standard output takes no more."""
        if file is sys.stdout:
            write(message, end="")
            flush()
        else:
            super()._print_message(message, file)


def parser(commands: Iterable[Command]) -> Parser:
    """The parser of `hubkeras` with its commands."""
    raw = argparse.RawDescriptionHelpFormatter
    description = "TF-Slim's ImageNet networks in today's Keras."
    usage = "hubkeras [-h] [--version] COMMAND ..."
    main = Parser("hubkeras", usage, description, epilog=_by_groups(commands), formatter_class=raw)
    main.add_argument("--version", action="version", version=__version__)
    main.set_defaults(command=None, parser=main, pipeline=[])
    subs = main.add_subparsers(dest="command", metavar="COMMAND", prog="hubkeras", help=argparse.SUPPRESS)
    for command in commands:
        example = f"example:\n  {command.example}"
        sub = subs.add_parser(command.name, description=command.help, epilog=example, formatter_class=raw)
        for add in command.arguments:
            add(sub)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        mode = sub.add_mutually_exclusive_group()
        mode.add_argument("--json", action="store_true", help="print one JSON object")
        mode.add_argument("--quiet", "-q", action="store_true", help="print what was written, and nothing else")
        sub.set_defaults(command=command, parser=sub)
    return main


def parse(main: Parser, arguments: Sequence[str]) -> Options:
    """Parses what was typed; `command` of it is the `Command`. Wrong usage ends the process with status 2."""
    cut = arguments.index("--") if _BEAM in arguments and "--" in arguments else len(arguments)
    options, unknown = main.parse_known_args(arguments[:cut])
    if options.command is None and not unknown:
        main.exit(2, main.format_help())
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.pipeline = list(arguments[cut + 1 :])
    return options


def _by_groups(commands: Iterable[Command]) -> str:
    """The commands by group, for `hubkeras --help`."""
    lines = []
    for group in Group:
        of_group = [command for command in commands if command.group is group]
        lines += [f"{group.value}:", *(f"  {command.name:<11} {command.help}" for command in of_group), ""]
    return "\n".join([*lines, "`hubkeras COMMAND --help` tells more, with an example."])
