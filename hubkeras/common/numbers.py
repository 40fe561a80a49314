"""Numbers of NumPy are numbers: arguments and settings become Python's own, which JSON and checks know."""

from typing import Any

import numpy as np

from hubkeras.common.errors import Error


def plain(value: Any) -> Any:
    """A number of NumPy as one of Python's, alone or in a list, a tuple or the values of a dict; all else as it is.

    Floats keep their shortest decimal form: the `np.float32` of 0.35 becomes 0.35, and not 0.3499999940395355.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, np.floating):
        return float(str(value))
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {name: plain(inner) for name, inner in value.items()}
    return value


def whole(value: Any, name: str) -> int:
    """`value` as a whole number of Python.

    Raises:
        hubkeras.Error: it is none, such as a text, a float, a pair or a bool.
    """
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, int):
        raise Error(f"{name} must be a whole number; got {value!r}.")
    return number
