"""A process of its own that runs a classifier of Hugging Face or timm: `python torch_worker.py LIBRARY FOLDER`.

It knows no TensorFlow: PyTorch's compiler, which these libraries import, ends a process that has loaded that. Images
come on standard input, float32 `[batch, height, width, 3]`, and outputs go back, each as `packed`. The first one back
is empty, once the model is loaded.
"""

import io
import json
import os
import pathlib
import sys
from typing import IO, Any

import numpy as np

_LENGTH = 8  # bytes of the number of bytes that follow


def packed(array: np.ndarray) -> bytes:
    """An array as the length of its `.npy` file, then that; a pipe cannot be read back and forth."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return len(file.getvalue()).to_bytes(_LENGTH, "big") + file.getvalue()


def unpacked(pipe: IO[bytes]) -> np.ndarray | None:
    """The next array of a pipe, None at its end."""
    length = int.from_bytes(pipe.read(_LENGTH), "big")
    data = pipe.read(length)
    return np.load(io.BytesIO(data), allow_pickle=False) if length and len(data) == length else None


def load(library: str, folder: pathlib.Path) -> Any:
    """The model; nothing is fetched, no code of the folder is run, and pickles are read for their tensors alone."""
    if library == "transformers":
        from transformers import AutoModelForImageClassification

        return AutoModelForImageClassification.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    import timm

    config = json.loads((folder / "config.json").read_text("utf-8"))
    classes = config.get("num_classes") or config.get("pretrained_cfg", {}).get("num_classes", 1000)
    model = timm.create_model(config["architecture"], num_classes=int(classes))
    model.load_state_dict(_state(folder))
    return model


def _state(folder: pathlib.Path) -> Any:
    for path in sorted(folder.glob("*.safetensors")):
        from safetensors.torch import load_file

        return load_file(str(path))
    for path in sorted([*folder.glob("*.bin"), *folder.glob("*.pth"), *folder.glob("*.pt")]):
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)
    raise FileNotFoundError("there is no .safetensors, .bin or .pth file with the weights")


def main(library: str, folder: str) -> None:
    """Loads the model, and answers until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    import torch

    model = load(library, pathlib.Path(folder)).eval()
    answers.write(packed(np.zeros(0, np.float32)))
    answers.flush()
    while (images := unpacked(sys.stdin.buffer)) is not None:
        with torch.no_grad():
            output = model(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
        answers.write(packed(np.asarray(getattr(output, "logits", output), np.float32)))
        answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
