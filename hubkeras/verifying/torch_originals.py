"""Classifiers of Hugging Face and timm from their folders, run by PyTorch."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra


def load(folder: pathlib.Path) -> tuple[str, Any]:
    """The model of a folder with `config.json` and safetensors or weights, and the name of its library.

    Nothing is fetched, and no code of the folder is run.

    Raises:
        hubkeras.Error: it cannot be loaded, or its library is not installed.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Error(f"{folder / 'config.json'} is not JSON; it is damaged.") from error
    architecture = config.get("architecture") if isinstance(config, dict) else None
    library = "timm" if isinstance(architecture, str) else "transformers"
    module = extra("peers", library)
    try:
        if library == "timm":
            classes = config.get("num_classes") or config.get("pretrained_cfg", {}).get("num_classes", 1000)
            model = module.create_model(architecture, num_classes=int(classes))
            model.load_state_dict(_state(folder))
        else:
            options = {"local_files_only": True, "trust_remote_code": False}
            model = module.AutoModelForImageClassification.from_pretrained(str(folder), **options)
    except Error:
        raise
    except Exception as error:  # each library has its own
        raise Error(f"{library} cannot load {folder} ({type(error).__name__}: {first_line(error)}).") from error
    return library, model


def _state(folder: pathlib.Path) -> Any:
    """The weights in a folder; pickles are read for their tensors alone."""
    for path in sorted(folder.glob("*.safetensors")):
        return extra("peers", "safetensors.torch").load_file(str(path))
    for path in sorted([*folder.glob("*.bin"), *folder.glob("*.pth"), *folder.glob("*.pt")]):
        return extra("peers", "torch").load(path, map_location="cpu", weights_only=True)
    raise Error(f"{folder} has no .safetensors, .bin or .pth file with the weights.")


def function_of(module: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The function from images, channels last, to the output of a module of PyTorch, in inference."""
    torch = extra("peers", "torch")
    module.eval()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            output = module(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
        return np.asarray(getattr(output, "logits", output).detach().cpu())

    return run
