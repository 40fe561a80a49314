"""The one exception that hubkeras raises for bad input."""


class Error(ValueError):
    """What was given, what was expected and what to do, in one sentence."""
