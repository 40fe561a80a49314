"""What users set on the layers of a network that is built, and how its config says it.

Frozen layers and regularizers are no arguments of a network. A config has them by scope, so that whoever builds the
network anew (a saved model, a clone, a copy) gets them back.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from hubkeras.architectures.backend import keras


def _below(network: Any) -> Iterator[tuple[str, str, Any]]:
    """Yields (scope of the parent, scope, layer or trainable variable) from the top down, without the root scope."""
    for scope, layer in network.walk(""):
        yield scope.rpartition("/")[0][1:], scope[1:], layer
        for variable in layer.trained_variables():
            yield scope[1:], f"{scope}/{variable.name}"[1:], variable


def trainable_scopes(network: Any) -> dict[str, bool]:
    """Which layers and variables are trainable, or frozen, where what holds them is not: `{"Conv_1": False}`."""
    found, exceptions = {"": network.trainable}, {}
    for parent, scope, item in _below(network):
        found[scope] = item.trainable
        if item.trainable != found[parent]:
            exceptions[scope] = item.trainable
    return exceptions


def set_trainable(network: Any, scopes: Mapping[str, bool]) -> None:
    """Sets what `trainable_scopes` returned.

    Raises:
        ValueError: the network has no such scope.
    """
    if not scopes:
        return
    items = {scope: item for _, scope, item in _below(network)}
    _check(network.name, scopes, items)
    for scope, item in items.items():  # from the top down: a layer sets all below it
        if scope in scopes:
            item.trainable = scopes[scope]


def regularizers(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The regularizer of each variable, as Keras serializes it."""
    return {
        name: _serialized(variable.regularizer) if variable.regularizer else None
        for name, variable in variables.items()
    }


def _serialized(regularizer: Any) -> dict[str, Any]:
    """A regularizer as Keras serializes it, without the number that it has while a model is loaded."""
    config = keras.regularizers.serialize(regularizer)
    return {name: value for name, value in config.items() if name != "shared_object_id"}


def changed(values: Mapping[str, Any], initial: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that differ from the initial ones."""
    return {name: value for name, value in values.items() if value != initial[name]}


def set_regularizers(variables: Mapping[str, Any], configs: Mapping[str, Any], custom_objects: Any = None) -> None:
    """Sets what `regularizers` returned, of all variables or some.

    Raises:
        ValueError: there is no such variable, or no such regularizer.
    """
    _check("The network", configs, variables)
    with keras.saving.custom_object_scope(custom_objects or {}):
        for name, config in configs.items():
            variables[name].regularizer = keras.regularizers.get(config)


def _check(owner: str, names: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    if unknown := next((name for name in names if name not in known), None):
        raise ValueError(f"{owner} has no {unknown!r}, which its config names; it was saved by another version.")
