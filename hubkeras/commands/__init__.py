"""The command `hubkeras`: parses, calls, prints. A group of commands is a file here, and a line in `_MODULES`."""

import argparse
import contextlib
import errno
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from typing import IO, Any, NoReturn

from hubkeras.commands import benchmarking, bulk, checking, converting, publishing
from hubkeras.common.errors import Error, printable
from hubkeras.common.version import __version__

_MODULES = (converting, checking, benchmarking, bulk, publishing)

# the groups of `hubkeras --help`, and the example at the end of each command's own help; tests run these, in this order
DIGITS = "examples/data/mobilenet_v2_0.35_96_digits.tgz"
EXAMPLES = {
    "convert": {
        "export": f"hubkeras export {DIGITS} build/digits",
        "convert": f"hubkeras convert {DIGITS} build/digits.weights.h5",
    },
    "check": {
        "inspect": "hubkeras inspect build/digits",
        "verify": f"hubkeras verify build/digits --source {DIGITS}",
        "benchmark": "hubkeras benchmark build/digits --batches 1 --seconds 1",
        "evaluate": "hubkeras evaluate build/digits photos --report build/report",
    },
    "publish": {
        "catalog": "hubkeras catalog mobilenet_v2_035",
        "document": "hubkeras document build/digits",
        "sign": "hubkeras sign build/digits --private-key key.pem",
        "pack": "hubkeras pack build/digits build/digits.tar.gz",
    },
    "serve": {
        "install": "hubkeras install build/digits --handle me/digits/1 --cache-dir build/cache",
        "installed": "hubkeras installed --cache-dir build/cache",
        "uninstall": "hubkeras uninstall me/digits/1 --cache-dir build/cache",
        "embed": "hubkeras embed build/digits photos build/features",
    },
}


class _Terminated(KeyboardInterrupt):
    """The process was asked to end; it cleans up as when it is interrupted."""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    main = argparse.ArgumentParser(
        prog="hubkeras",
        description="TF-Slim's ImageNet networks in today's Keras.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="hubkeras [-h] [--version] COMMAND ...",
    )
    main.add_argument("--version", action="version", version=__version__)
    commands = main.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog="hubkeras", help=argparse.SUPPRESS
    )
    helps: dict[str, str] = {}
    examples = {name: example for group in EXAMPLES.values() for name, example in group.items()}

    def command(
        name: str, run: Callable[[argparse.Namespace], int | None], help_text: str, tensorflow: bool = True
    ) -> argparse.ArgumentParser:
        """Adds a command: its name, what runs it, one line of help, and whether it needs TensorFlow."""
        helps[name] = help_text
        epilog = f"example:\n  {examples[name]}" if name in examples else None
        raw = argparse.RawDescriptionHelpFormatter
        sub = commands.add_parser(name, description=help_text, epilog=epilog, formatter_class=raw)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(run=run, tensorflow=tensorflow)
        return sub

    for module in _MODULES:
        module.add(command)
    main.epilog = _grouped(helps)
    return main


def _grouped(helps: dict[str, str]) -> str:
    """The commands of `{name: help}` by group, for `hubkeras --help`."""
    groups = {group: [name for name in names if name in helps] for group, names in EXAMPLES.items()}
    others = [name for name in helps if all(name not in names for names in groups.values())]
    lines = []
    for group, names in {**groups, "other": others}.items():
        if names:
            lines += [f"{group}:", *(f"  {name:<11} {helps[name]}" for name in names), ""]
    return "\n".join([*lines, "`hubkeras COMMAND --help` tells more, with an example."])


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, or 1 after an error; argparse exits with 2 for wrong usage."""
    commands = parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        _complete(commands)
    options = commands.parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    for name in ("stdout", "stderr"):  # which cron jobs and `>&-` close
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files need not be text
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged images, which have their own error
    try:
        _read_texts(options)
        if options.tensorflow:
            _import_quietly()
        return options.run(options) or 0
    except Error as error:
        return _failed(options, error, str(error))
    except _Terminated:
        return _stopped("terminated", signal.SIGTERM)
    except KeyboardInterrupt:
        return _stopped("interrupted", signal.SIGINT)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return _failed(options, error, "This process may open no more files; raise the limit (ulimit -n).")
        if isinstance(error, PermissionError):
            return _failed(options, error, f"{error.filename or error}: permission denied.")
        return _failed(options, error, f"{type(error).__name__}: {error} (--debug shows more)")


def _failed(options: argparse.Namespace, error: Exception, message: str) -> int:
    if options.debug:
        raise error
    _say(printable(" ".join(message.split())))
    return 1


def _stopped(how: str, number: int) -> int:
    """Says so; what commands write appears whole or not at all, and may have been complete already."""
    _say(f"{how}; nothing is left half written.")
    return 128 + number


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # standard error can be a file on the disk that is full
        print(f"hubkeras: {line}", file=sys.stderr, flush=True)


def _terminate(*_: Any) -> NoReturn:
    raise _Terminated


def _read_texts(options: argparse.Namespace) -> None:
    """Makes `~/` the home where the shell has not, as in `--report=~/r`, which would be a folder of this name here.

    Raises hubkeras.Error where an argument is empty, or not UTF-8, in which TensorFlow and JSON have names of files.
    """
    for name, value in list(vars(options).items()):
        if name == "pipeline":  # arguments of Beam
            continue
        texts = [_text(name, each) for each in (value if isinstance(value, list) else [value])]
        setattr(options, name, texts if isinstance(value, list) else texts[0])


def _text(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise Error(f"The argument {name.upper()} is empty; is a variable of the shell not set?")
    if any("\ud800" <= character <= "\udfff" for character in value):
        advice = "give the file or folder a name of UTF-8 text, or set LC_ALL=C.UTF-8 where it has one"
        raise Error(f"{value!a} is not UTF-8; {advice}.")
    return os.path.expanduser(value) if value.startswith("~/") and not os.path.lexists(value) else value


def _complete(commands: argparse.ArgumentParser) -> None:
    try:
        import argcomplete
    except ImportError:
        raise SystemExit("completion needs argcomplete: pip install 'hubkeras[completion]'") from None
    argcomplete.autocomplete(commands)


def _log() -> IO[bytes]:
    """A file for what TensorFlow writes while it is imported."""
    try:
        return tempfile.TemporaryFile()
    except OSError:  # there is no place for temporary files, which most commands do without
        return open(os.devnull, "w+b")


def _check_backend() -> None:
    """Raises hubkeras.Error where KERAS_BACKEND, or ~/.keras/keras.json, names another backend than TensorFlow."""
    advice = "hubkeras's commands need Keras on TensorFlow; set KERAS_BACKEND=tensorflow"
    try:
        import keras
    except (ImportError, ValueError) as error:
        raise Error(f"Keras cannot be imported ({error}); {advice}.") from error
    if keras.backend.backend() != "tensorflow":
        raise Error(f"Keras runs on {keras.backend.backend()}; {advice}.")


def _import_quietly() -> None:
    """Imports TensorFlow without the lines that it writes to standard error, which is for our messages."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _log() as log:
        original = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            import tensorflow  # noqa: F401

            _check_backend()
        except Error:  # which says it all
            raise
        except BaseException:
            log.seek(0)
            os.write(original, log.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
