"""Classifiers of Hugging Face and timm from their folders, and modules of PyTorch in memory."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from hubkeras.common.errors import Error
from hubkeras.common.extras import installation
from hubkeras.verifying.torch_worker import packed, unpacked

_WORKER = pathlib.Path(__file__).with_name("torch_worker.py")
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
_LARGEST_MESSAGE = 300


def open_folder(folder: pathlib.Path) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """The library of a folder with `config.json` and weights, and the function of the model in it.

    The model runs in a process of its own, see `torch_worker`. Nothing is fetched, and no code of the folder is run.

    Raises:
        hubkeras.Error: it cannot be loaded, or its library is not installed.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Error(f"{folder / 'config.json'} is not JSON; it is damaged.") from error
    library = "timm" if isinstance(config, dict) and isinstance(config.get("architecture"), str) else "transformers"
    for package in (library, "torch"):
        if importlib.util.find_spec(package) is None:
            command = installation(package)
            raise Error(f"{package} is not installed; `{command}` installs it.", repair=command)
    worker = _Worker(library, folder)
    worker.receive()  # it is loaded
    return library, worker.run


class _Worker:
    """The process that runs a model."""

    def __init__(self, library: str, folder: pathlib.Path) -> None:
        self.library, self.folder = library, folder
        self.messages = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe that nobody reads would fill up
        self.process = subprocess.Popen(
            [sys.executable, str(_WORKER), library, str(folder.absolute())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            env={**os.environ, **_OFFLINE},
        )
        weakref.finalize(self, _end, self.process)

    def run(self, images: np.ndarray) -> np.ndarray:
        """The logits of images, float32 `[batch, height, width, 3]`."""
        assert self.process.stdin
        try:
            self.process.stdin.write(packed(images))
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, and says why
        return self.receive()

    def receive(self) -> np.ndarray:
        assert self.process.stdout
        output = unpacked(self.process.stdout)
        if output is None:
            _end(self.process)
            self.messages.seek(0)
            lines = self.messages.read().decode("utf-8", "replace").strip().splitlines() or ["its process ended"]
            raise Error(f"{self.library} cannot run {self.folder} ({lines[-1][:_LARGEST_MESSAGE]}).")
        return output


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


def function_of(module: Any) -> Callable[[np.ndarray], np.ndarray]:
    """The function from images, channels last, to the output of a module of PyTorch in memory, in inference."""
    import torch

    def run(images: np.ndarray) -> np.ndarray:
        training = module.training
        module.eval()
        try:
            with torch.no_grad():
                output = module(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
        finally:
            module.train(training)
        return np.asarray(getattr(output, "logits", output).detach().cpu())

    return run
