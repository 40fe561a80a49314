"""The one exception that hubkeras raises for bad input, and the words of other libraries in it."""


class Error(ValueError):
    """What was given, what was expected and what to do, in one sentence."""


def first_line(error: BaseException) -> str:
    """The first line of what an error of TensorFlow, Keras or another library says; of a silent one its type."""
    lines = str(getattr(error, "message", error)).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")
