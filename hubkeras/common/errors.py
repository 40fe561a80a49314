"""The one exception that hubkeras raises for bad input, and the words of other libraries in it."""

import re

_OF_TENSORFLOW = re.compile(r"^(\{\{.*?\}\} )+")  # the operation, before what it has to say


class Error(ValueError):
    """What was given, what was expected and what to do, in one sentence."""


def first_line(error: BaseException) -> str:
    """The first line of what an error of TensorFlow, Keras or another library says; of a silent one its type."""
    text = _OF_TENSORFLOW.sub("", str(getattr(error, "message", error)).strip())
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")


def reason(error: OSError) -> str:
    """Why something cannot be written, in words; a file in the place of a folder is said to be one."""
    return "it is a file, no folder" if isinstance(error, FileExistsError | NotADirectoryError) else str(error.strerror)
