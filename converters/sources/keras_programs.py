"""Code in Keras' configs, which Keras runs where it is told to, and Keras 2 unasked; here it is data."""

import re
from collections.abc import Mapping
from typing import Any

# classes whose configs have code or name a program; the last stands wherever a config may have a function
_PROGRAMS = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__")


def is_program(kind: object) -> bool:
    """Whether a class of a config is code, by its last name: Keras 3 takes `layers.Lambda` of `keras` too.

    >>> is_program("layers.Lambda"), is_program("mine>Lambda"), is_program("Dense")
    (True, True, False)
    """
    return re.split("[>.]", str(kind))[-1] in _PROGRAMS


def programs_in(config: Any) -> tuple[str, ...]:
    """The names of the layers of a config that are or have code, each once; the class where there is no name.

    What the config says of a class's package does not count: Keras goes by one or another of such names.

    >>> programs_in({"class_name": "Dense", "config": {"name": "scores", "activation": {"class_name": "__lambda__"}}})
    ('scores',)
    """
    found: dict[str, None] = {}
    ahead: list[tuple[Any, str]] = [(config, "")]
    while ahead:
        value, name = ahead.pop()
        if isinstance(value, Mapping):
            name = _name_of(value) or name
            if is_program(kind := value.get("class_name")):
                found[name or str(kind)] = None
        if isinstance(value, Mapping | list | tuple):
            inner = list(value.values()) if isinstance(value, Mapping) else value
            ahead += [(each, name) for each in reversed(inner) if isinstance(each, Mapping | list | tuple)]
    return tuple(found)


def _name_of(value: Mapping[str, Any]) -> str:
    """The name of a layer by its config; functions have none of their own."""
    options = value.get("config")
    names = (each.get("name") for each in (value, options) if isinstance(each, Mapping) and "class_name" in value)
    return next((name for name in names if isinstance(name, str)), "")
