"""Models of Keras 3 and tf_keras from files, checked before Keras sees them, and what their last layer does.

Keras' own safe mode is not for HDF5 files of tf_keras, whose Lambda layers are programs; and a `KerasLayer` loads a
SavedModel, which is one.
"""

import importlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.guards import safety
from hubkeras.common.guards.zips import open_zip
from hubkeras.consuming import handles
from hubkeras.converters.sources.hdf5 import open_hdf5
from hubkeras.converters.sources.keras_layer_tree import is_archive, open_keras_file
from hubkeras.converters.sources.keras_programs import is_program

TITLES = {"tf_keras": "tf_keras", "keras": "Keras"}  # by the package that a model's classes are of
_MODULES = ("keras", "tf_keras", "hubkeras", "tensorflow_hub", "builtins")
_OPERATIONS = ("TFOpLambda", "SlicingOpLambda", "ClassMethod", "InstanceMethod", "InstanceProperty")
# TensorFlow's functions that such a layer may call: arithmetic, which reads and writes no files
_ARITHMETIC = frozenset(
    {
        *(
            "__operators__",
            "math",
            "nn",
            "image",
            "cast",
            "reshape",
            "concat",
            "stack",
            "unstack",
            "split",
            "transpose",
        ),
        *("transpose", "expand_dims", "squeeze", "add", "subtract", "multiply", "divide", "truediv", "identity"),
        *("reduce_mean", "reduce_sum", "reduce_max", "clip_by_value", "convert_to_tensor", "reverse", "tile", "shape"),
    }
)


def load(path: pathlib.Path, safe_mode: bool) -> tuple[str, Any]:
    """A model from a `.keras` or `.h5` file, by Keras 3 or tf_keras as the file says, and that library's name.

    Raises:
        hubkeras.Error: it is damaged, holds weights alone, is a program, or cannot be loaded by its library.
    """
    with open_keras_file(path):  # the walls of zip archives and HDF5
        version, config = _version_and_config(path)
    if not config:
        raise Error(f"{path} holds weights alone, which no library can run; compare with it by --source.")
    if safe_mode:
        check_config(config, path)
    library = "keras" if version.startswith("3") else "tf_keras"
    keras = importlib.import_module("keras") if library == "keras" else extra("hub", "tf_keras")
    objects = {} if library == "keras" else {"KerasLayer": _keras_layer(safe_mode)}
    if library == "keras":
        importlib.import_module("hubkeras.consuming.keras_layer")  # registers it
        importlib.import_module("hubkeras.architectures")
    options = {"safe_mode": False} if path.suffix == ".keras" and not safe_mode else {}
    try:
        return TITLES[library], keras.models.load_model(os.fspath(path), objects, compile=False, **options)
    except Error:
        raise
    except Exception as error:  # of any kind where a layer is unknown
        raise Error(f"{TITLES[library]} cannot load {path} ({type(error).__name__}: {first_line(error)}).") from error


def _version_and_config(path: pathlib.Path) -> tuple[str, Any]:
    """The version of Keras that wrote a file, and the model's config, None where it has none."""
    if is_archive(path):
        with open_zip(path) as archive:
            about = json.loads(archive.read("metadata.json")) if "metadata.json" in archive.namelist() else {}
            return str(about.get("keras_version", "3")), json.loads(archive.read("config.json"))
    with open_hdf5(path) as file:
        version, config = file.attrs.get("keras_version", "2"), file.attrs.get("model_config")
    return (version.decode() if isinstance(version, bytes) else str(version)), config and json.loads(config)


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """All objects of JSON, at any depth."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def check_config(config: Any, path: pathlib.Path) -> None:
    """Raises hubkeras.Error where a config names what could do more than compute."""
    for each in _objects(config):
        kind, module = each.get("class_name"), each.get("module")
        inner = each.get("config")
        options: Mapping[str, Any] = inner if isinstance(inner, dict) else {}
        name = options.get("name") or each.get("name") or "layer"
        if is_program(kind):
            raise Error(f"{path}: {name} is a {kind}, which is a program; give --unsafe to run it all the same.")
        if isinstance(module, str) and module.split(".")[0] not in _MODULES:
            raise Error(f"{path}: {name} is of the package {module}; give --unsafe to run it all the same.")
        if module == "builtins" and kind not in ("function", "__tuple__", "slice", None):
            raise Error(f"{path}: {name} is Python's {kind}; give --unsafe to run it all the same.")
        if kind in _OPERATIONS:
            function = str(options.get("function", options.get("method_name", "")))
            if kind != "SlicingOpLambda" and function.split(".")[0] not in _ARITHMETIC:
                raise Error(f"{path}: {name} calls {function}; give --unsafe to run it all the same.")


def _keras_layer(safe_mode: bool) -> Any:
    """tensorflow_hub's layer, whose SavedModel is checked before it is loaded."""
    hub = extra("hub", "tensorflow_hub")

    class KerasLayer(hub.KerasLayer):  # type: ignore[name-defined]
        def __init__(self, handle: Any, *arguments: Any, **options: Any) -> None:
            if isinstance(handle, str):
                handle = handles.resolve(handle)
                if safe_mode:
                    safety.check(handle)
            super().__init__(handle, *arguments, **options)

    return KerasLayer


def last_activation(model: Any) -> str | None:
    """What the last layer of a model does, `softmax`, `sigmoid` or `linear`; None where that is another or unknown."""
    while layers := getattr(model, "layers", None):
        model = layers[-1]
    if type(model).__name__ == "Softmax":
        return "softmax"
    name = getattr(getattr(model, "activation", None), "__name__", None)
    return name if name in ("softmax", "sigmoid", "linear") else None
