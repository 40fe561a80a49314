"""A model that is loaded in its runtime, and the description that models carry of themselves."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hubkeras.common import labels as label_files
from hubkeras.common.errors import Error
from hubkeras.common.input_range import InputRange
from hubkeras.common.interface import Interface
from hubkeras.common.metadata import Metadata

Shape = Sequence[int | str | None]
Call = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Description:
    """The description that a model carries of itself.

    Attributes:
        metadata: what hubkeras wrote of it, None of other models.
        labels: class names, None where it has none.
    """

    metadata: Metadata | None = None
    labels: Sequence[str] | None = None

    @classmethod
    def of_texts(cls, texts: Mapping[str, str]) -> Description:
        """The description of what lies inside a file: `metadata`, JSON, and `labels`, one a line.

        Another program's file may have texts of these names; its metadata are none.
        """
        metadata = None
        with contextlib.suppress(Error):
            metadata = Metadata.from_json(texts["metadata"]) if "metadata" in texts else None
        return cls(metadata, label_files.written_labels(texts.get("labels", "").encode()) or None)

    def texts(self) -> dict[str, str]:
        """The texts to write into a file: `metadata`, JSON, and with a head `labels`, one class name a line."""
        texts = {} if self.metadata is None else {"metadata": self.metadata.to_json()}
        return texts if self.labels is None else {**texts, "labels": "".join(f"{label}\n" for label in self.labels)}

    @property
    def interface(self) -> Interface:
        """Inputs and outputs of a file that hubkeras writes, which its metadata have."""
        assert self.metadata is not None
        assert self.metadata.interface is not None
        return self.metadata.interface

    @property
    def image_size(self) -> int:
        """Height and width in pixels of the images for a file that hubkeras writes, fixed to these or not."""
        assert self.metadata is not None
        return self.interface.image_size or self.metadata.default_image_size


@dataclasses.dataclass(frozen=True)
class Session:
    """A model in its runtime, with inputs and outputs as the runtime has them.

    Attributes:
        run: function from images, as the model takes them, to `{output name: array}`.
        description: what the model says of itself.
        dtype: of the images, such as `float32` or `uint8`.
        shape: of the images; what is not an integer is free, and () is any shape.
        outputs: `{output name: shape}`, in the model's order.
        activations: by output what its last operation is: `softmax`, `sigmoid`, `linear`, or None where the graph does
            not tell.
        input_range: of a model from elsewhere what it takes in place of images in [0, 1]; None of one that takes these.
        signature: of a SavedModel, the name of the one that was taken.
        content_hash: of a SavedModel, SHA-256 over its files, in hexadecimal.
    """

    run: Call
    description: Description
    dtype: str
    shape: Shape
    outputs: Mapping[str, Shape]
    activations: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    input_range: InputRange | None = None
    signature: str | None = None
    content_hash: str | None = None


def in_turns(calls: Sequence[Call]) -> Call:
    """A function that any number of threads may call, of some that run one call at a time: it waits for a free one."""
    free: queue.SimpleQueue[Call] = queue.SimpleQueue()
    for call in calls:
        free.put(call)

    def run(values: np.ndarray) -> dict[str, np.ndarray]:
        call = free.get()
        try:
            return call(values)
        finally:
            free.put(call)

    return run


def only_input(inputs: Sequence[Any], path: object) -> Any:
    """The one input of a model; raises hubkeras.Error where there are others."""
    if len(inputs) != 1:
        raise Error(f"{path} takes {len(inputs)} tensors; expected images, float32 [batch, height, width, 3].")
    return inputs[0]
