"""The parser of the command line: argparse, whose errors name what was meant, and the help by groups.

An option with a default gets it at the end of its help, `(default: 5)`; of others the help itself says it in that form.
"""

import argparse
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from hubkeras.commands.command import Command, Group, Options
from hubkeras.commands.output import flush, write
from hubkeras.common.errors import did_you_mean
from hubkeras.common.version import versions

_MISTYPED = re.compile(r"unrecognized arguments: (-[\w-]+)|invalid choice: '?([^' ]+)'?")
_BEAM = "--beam"  # with it, what follows `--` are options of Apache Beam


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Wraps texts of one line, and keeps the lines of others."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that takes no abbreviations, and suggests the nearest word for a mistyped one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        """Tells what is wrong below a usage of one line, in which options may be left out."""
        if match := _MISTYPED.search(message):
            option, choice = match.groups()
            known = self._option_string_actions if option else re.split(r"[', ]+", message.partition("choose from")[2])
            message += did_you_mean(option or choice, [word.strip("()") for word in known])
        formatter = self._get_formatter()
        needed = [action for action in self._actions if action.required or not action.option_strings]
        formatter.add_usage(self.usage, needed, [])
        advice = f"`{self.prog} --help` tells more."
        self.exit(2, f"{formatter.format_help().strip()}\n{self.prog}: error: {message}\n{advice}\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Writes help, the version or usage; argparse says nothing where standard output takes no more."""
        if file is sys.stdout:
            write(message, end="")
            flush()
        else:
            super()._print_message(message, file)


class _Versions(argparse.Action):
    """`--version`: that of hubkeras, and of what computes; they are looked up where they are asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        own, *others = (f"{name} {version}" for name, version in versions().items())
        parser._print_message(f"{own} ({', '.join(others)})\n", sys.stdout)
        parser.exit()


def parser(commands: Iterable[Command]) -> Parser:
    """The parser of `hubkeras` with its commands."""
    description = "TF-Slim's ImageNet networks in today's Keras."
    usage = "hubkeras [-h] [--version] COMMAND ..."
    main = Parser(prog="hubkeras", usage=usage, description=description, epilog=_by_groups(commands))
    main.add_argument("--version", action=_Versions, nargs=0, help="show the versions of hubkeras and of what computes")
    main.set_defaults(command=None, parser=main, pipeline=[])
    subs = main.add_subparsers(dest="command", metavar="COMMAND", prog="hubkeras", help=argparse.SUPPRESS)
    for command in commands:
        sub = subs.add_parser(command.name, description=command.help, epilog=f"example:\n  {command.example}")
        for add in command.arguments:
            add(sub)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        mode = sub.add_mutually_exclusive_group()
        mode.add_argument("--json", action="store_true", help="print one JSON object")
        mode.add_argument("-q", "--quiet", action="store_true", help="print what was written, and nothing else")
        sub.set_defaults(command=command, parser=sub)
        for action in sub._actions:
            _tell_default(action)
    return main


def _tell_default(action: argparse.Action) -> None:
    """Adds the default of an option to its help, where it has one that the help does not say."""
    default = action.default
    if action.option_strings and not isinstance(default, bool) and default not in (None, [], argparse.SUPPRESS):
        words = " ".join(map(str, default)) if isinstance(default, list) else default
        action.help = f"{action.help} (default: {words})"


def parse(main: Parser, arguments: Sequence[str]) -> Options:
    """Parses what was typed; `command` of it is the `Command`. Wrong usage ends the process with status 2."""
    cut = arguments.index("--") if _BEAM in arguments and "--" in arguments else len(arguments)
    options, unknown = main.parse_known_args(arguments[:cut])
    if options.command is None and not unknown:
        main.exit(2, main.format_help())
    if options.command and unknown and arguments[0] in options.parser._option_string_actions:
        name = options.command.name
        options.parser.error(f"{arguments[0]} comes after the command: hubkeras {name} {arguments[0]}")
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
