"""The config of a Keras model in a file beside its weights, as `model.to_json()` gives it."""

import json
import pathlib
from typing import Any

from hubkeras.common.errors import Error
from hubkeras.common.guards import contents

_NAMES = ("config.json", "model.json", "model_config.json", "architecture.json")
_CLASSES = ("Functional", "Model", "Sequential")
_MOST_BYTES = 64 << 20  # a network has about 1 MB
_OF_WEIGHTS = (".h5", ".hdf5")


def config_beside(path: pathlib.Path) -> tuple[pathlib.Path, dict[str, Any]] | None:
    """The file with the config of a file of weights, and the config; None where there is none.

    It is called as the weights are (`flowers.json` for `flowers.weights.h5`), or, where the folder has no other
    weights, as people call such files (`config.json`, `model.json`). JSON that is no config of a Keras model is none.

    Raises:
        hubkeras.Error: the file is no JSON.
    """
    others = [file for file in path.parent.iterdir() if file.suffix in _OF_WEIGHTS and file.name != path.name]
    names = (_own_name(path.name), *_NAMES) if not others else (_own_name(path.name),)
    for file in (path.with_name(name) for name in names):
        config = _config(file, path)
        if config is not None:
            return file, config
    return None


def is_config_name(name: str, weights: str) -> bool:
    """Whether a file is called as the config of a file of weights is.

    >>> is_config_name("flowers.json", "flowers.weights.h5"), is_config_name("photos.json", "flowers.weights.h5")
    (True, False)
    """
    return weights.endswith(_OF_WEIGHTS) and name in (_own_name(weights), *_NAMES)


def _own_name(weights: str) -> str:
    stem = weights.rpartition(".")[0].removesuffix(".weights").removesuffix("_weights")
    return f"{stem}.json"


def _config(file: pathlib.Path, weights: pathlib.Path) -> dict[str, Any] | None:
    if not file.is_file() or file.stat().st_size > _MOST_BYTES:
        return None
    contents.refuse(file, only=("pointer", "page"))
    try:
        config = json.loads(file.read_text("utf-8"))
        if isinstance(config, str):  # `json.dump(model.to_json(), file)`
            config = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise Error(f"{weights}: {file.name}, which lies beside it, is not JSON ({error}); copy it again.") from error
    is_model = isinstance(config, dict) and config.get("class_name") in _CLASSES
    return config if is_model and isinstance(config.get("config"), dict | list) else None
