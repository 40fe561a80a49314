"""The program: parses, runs a command, and turns whatever happens into an exit status and at most one line."""

import atexit
import contextlib
import errno
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from hubkeras.commands import (
    benchmark,
    classify,
    convert,
    embed,
    evaluate,
    info,
    inspect,
    packing,
    parsing,
    publish,
    serve,
    train,
    verify,
)
from hubkeras.commands.command import Needs, Options
from hubkeras.commands.output import ClosedPipe, Mode, Output
from hubkeras.common import without_keras
from hubkeras.common.errors import Error
from hubkeras.common.extras import installation
from hubkeras.common.quiet import import_quietly, quietly
from hubkeras.common.staging import rehearsed

COMMANDS = (
    *(convert.export, convert.convert, train.train),
    *(inspect.inspect, verify.verify, benchmark.benchmark, evaluate.evaluate, info.info),
    *(publish.catalog, publish.document, publish.sign, packing.pack),
    *(serve.install, serve.installed, serve.uninstall, classify.classify, embed.embed),
)
# of the environment, which NumPy and Keras read as they are imported
_WHOLE_NUMBERS = ("SOURCE_DATE_EPOCH", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")
_BACKEND = "hubkeras's commands need Keras on TensorFlow; set KERAS_BACKEND=tensorflow"
_CLOSED_PIPE = 128 + 13  # as a shell shows SIGPIPE, which ends other tools in silence


_arrived: list[int] = []  # signals to end: C++ in which a handler raises makes another exception of it


class _Terminated(KeyboardInterrupt):
    """The process was asked to end; it cleans up as when it is interrupted."""


def parser() -> parsing.Parser:
    """The parser of the command line."""
    return parsing.parser(COMMANDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, or 1 after an error; wrong usage ends the process with 2."""
    commands = parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could come next
        _complete(commands)
    typed = sys.argv[1:] if arguments is None else list(arguments)
    _mend_streams()
    try:
        options = parsing.parse(commands, typed)
    except ClosedPipe:  # by help and the version
        return _CLOSED_PIPE
    except Error as error:
        Output().error(str(error))
        return 1
    _arrived.clear()
    signal.signal(signal.SIGTERM, _end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell lets what it put behind ignore them
        signal.signal(signal.SIGINT, _end)
    output = Output(Mode.JSON if options.json else Mode.QUIET if options.quiet else Mode.TEXT)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged images, which have their own error
        warnings.showwarning = lambda message, *_, **__: output.warning(str(message))
        status = _run(options, output, typed, alone=arguments is None)
    if arguments is None and "apache_beam" in sys.modules:
        _leave(status)
    return status


def _leave(status: int) -> NoReturn:
    """Ends the process without Python's own end: Beam leaves threads, which abort the process when that stops them."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run(options: Options, output: Output, typed: Sequence[str], alone: bool) -> int:
    try:
        _mend_texts(options)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with rehearsed(getattr(options, "dry_run", False)):  # what is refused at once
            options.command.first(options)
        if alone:
            import_quietly("tensorflow", "keras")  # by commands that may not need them
        needs = options.command.needs
        needs = needs(options) if callable(needs) else needs
        if alone and needs is not Needs.KERAS:
            without_keras.choose()  # of a process that does nothing else
        if needs is not Needs.NOTHING:
            _import_tensorflow(keras=not without_keras.chosen())
        status = options.command.run(options, output) or 0
        output.close()
        return status
    except ClosedPipe:
        return _CLOSED_PIPE
    except KeyboardInterrupt as error:
        return _stopped(output, signal.SIGTERM if isinstance(error, _Terminated) else signal.SIGINT)
    except Exception as error:
        if options.debug:
            raise
        if _arrived:
            return _stopped(output, _arrived[0])
        output.error(_sentence(error), _repair(error, typed))
        return 1


def _sentence(error: Exception) -> str:
    if isinstance(error, Error):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "This process may open no more files; raise the limit (ulimit -n)."
    if isinstance(error, PermissionError):
        return f"{error.filename or error}: permission denied."
    return _of_environment(str(error)) or f"{type(error).__name__}: {error} (--debug shows more)"


def _of_environment(text: str) -> str | None:
    """The sentence for what libraries raise, as they are imported, because of a variable of the environment."""
    if "import backend" in text:
        return f"Keras cannot be imported ({text}); {_BACKEND}."
    for name in _WHOLE_NUMBERS:
        value = os.environ.get(name)
        if value is not None and repr(value) in text:
            return f"The environment variable {name} must be a whole number; it is {value!r}."
    return None


def _repair(error: Exception, typed: Sequence[str]) -> str | None:
    """The command that repairs an error: another one, or what was typed with an option more."""
    repair = getattr(error, "repair", None)
    if repair is None or not repair.startswith("-"):
        return repair
    cut = typed.index("--") if "--" in typed else len(typed)
    return " ".join(filter(None, ("hubkeras", shlex.join(typed[:cut]), repair, shlex.join(typed[cut:]))))


def _stopped(output: Output, number: int) -> int:
    """Says so, and what the command has left to go on from; what commands write appears whole or not at all."""
    how = "terminated" if number == signal.SIGTERM else "interrupted"
    output.error(f"{how}; {output.if_stopped() or 'nothing is left half written'}.")
    return 128 + number


def _end(number: int, _: Any) -> NoReturn:
    _arrived.append(number)
    raise _Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _mend_streams() -> None:
    """Replaces standard streams that cron jobs and `>&-` close, and has names of files that are no text escaped."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _mend_texts(options: Options) -> None:
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


def _complete(commands: parsing.Parser) -> None:
    try:
        import argcomplete
    except ImportError:
        raise SystemExit(f"completion needs argcomplete: {installation('hubkeras[completion]')}") from None
    argcomplete.autocomplete(commands)


def _import_tensorflow(keras: bool) -> None:
    """Imports TensorFlow, and Keras, without the lines that they write to standard error, which is for our messages.

    Raises hubkeras.Error where KERAS_BACKEND, or ~/.keras/keras.json, names another backend than TensorFlow.
    """
    with quietly():
        with contextlib.nullcontext() if keras else without_keras.postponed():
            import tensorflow  # noqa: F401
        if not keras:
            return
        try:
            from keras import backend
        except (ImportError, ValueError) as error:
            raise Error(f"Keras cannot be imported ({error}); {_BACKEND}.") from error
        if backend.backend() != "tensorflow":
            raise Error(f"Keras runs on {backend.backend()}; {_BACKEND}.")
