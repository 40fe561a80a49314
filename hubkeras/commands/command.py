"""Commands as records: what `hubkeras --help` and the parser need beside the function that runs.

@command(Group.SERVE, "Remove handles from the cache.", "hubkeras uninstall me/digits/1", argument("handle"))
def uninstall(options: Options, output: Output) -> None: ...
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hubkeras.commands.output import Output

Options = argparse.Namespace
Run = Callable[[Options, Output], "int | None"]
First = Callable[[Options], object]
Add = Callable[[Any], object]  # adds an argument to a parser or a group of arguments


class Group(str, Enum):
    """The groups of `hubkeras --help`, in its order."""

    CONVERT = "convert"
    CHECK = "check"
    PUBLISH = "publish"
    SERVE = "serve"


class Needs(Enum):
    """What is imported, in silence, before a command runs; it takes seconds."""

    NOTHING = "nothing"  # networks are those of NumPy
    TENSORFLOW = "tensorflow"  # these too
    KERAS = "keras"


@dataclass(frozen=True)
class Command:
    """A command of `hubkeras`.

    Attributes:
        name: the word that people type.
        group: where `hubkeras --help` lists it.
        help: what it does, in one line.
        example: a command line that works in a checkout, at the end of its help. Tests run the examples in the order
            of `hubkeras --help`.
        arguments: functions that add its arguments to a parser.
        run: does the work and writes to an `Output`; returns the exit status, None for 0.
        needs: what it needs, or what tells it of the options.
        first: raises hubkeras.Error for what can be refused before TensorFlow is imported, which takes seconds.
    """

    name: str
    group: Group
    help: str
    example: str
    arguments: tuple[Add, ...]
    run: Run
    needs: Needs | Callable[[Options], Needs]
    first: First


def command(
    group: Group,
    help_text: str,
    example: str,
    *arguments: Add,
    needs: Needs | Callable[[Options], Needs] = Needs.KERAS,
    first: First = lambda _: None,
) -> Callable[[Run], Command]:
    """A decorator that makes the `Command` of a function, and of its name."""

    def make(run: Run) -> Command:
        return Command(getattr(run, "__name__", ""), group, help_text, example, arguments, run, needs, first)

    return make


def argument(*names: str, **options: Any) -> Add:
    """An argument; names and options are those of `argparse.ArgumentParser.add_argument`."""
    return lambda parser: parser.add_argument(*names, **options)


def flag(name: str, help_text: str, **options: Any) -> Add:
    """An option without a value."""
    return argument(name, action="store_true", help=help_text, **options)


def one_of(*arguments: Add, required: bool = False) -> Add:
    """Arguments that exclude each other."""
    return lambda parser: _add_all(parser.add_mutually_exclusive_group(required=required), arguments)


def titled(title: str, *arguments: Add) -> Add:
    """Arguments under a title of their own in the help."""
    return lambda parser: _add_all(parser.add_argument_group(title), arguments)


def _add_all(group: Any, arguments: tuple[Add, ...]) -> None:
    for add in arguments:
        add(group)


def words(choices: type[Enum]) -> list[str]:
    """The words of an enumeration that are typed on a command line."""
    return [choice.value for choice in choices]


DIGITS = "examples/data/mobilenet_v2_0.35_96_digits.tgz"  # the checkpoint of the examples
RUNTIMES = (".onnx", ".tflite", ".xml")  # endings of files for runtimes
MODEL = "a SavedModel (folder, archive or handle), or an .onnx, .tflite or .xml file"
DRY_RUN = flag("--dry-run", "do all but the writing, tell what would be written and replaced, and stop")
UNSAFE = argument(
    "--unsafe",
    dest="safe_mode",
    action="store_false",
    help="run a model from elsewhere although it could do more than compute: only where you trust it",
)


def needs_of_model(options: Options) -> Needs:
    """What a command needs that runs a model: a file for a runtime, the runtime alone."""
    return Needs.NOTHING if options.model.endswith(RUNTIMES) else Needs.TENSORFLOW
