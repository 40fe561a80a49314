"""Random changes of training images: one affine map and one change of light for each image, drawn from a seed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops


@dataclass(frozen=True)
class Augmentation:
    """How far training images are changed.

    Attributes:
        flip: whether half of them are mirrored, left to right.
        shift: largest shift, as a share of height and width.
        zoom: largest change of size, as a share; height and width alike.
        light: largest change of brightness and of contrast, as a share of white and of the contrast.
    """

    flip: bool = False
    shift: float = 0.0
    zoom: float = 0.0
    light: float = 0.0

    def draw(self, count: int, size: tuple[int, int], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The changes of `count` images: float32 `[count, 8]` affine maps, `[count, 2]` contrasts and brightnesses."""
        height, width = size
        scale = 1 + random.uniform(-self.zoom, self.zoom, count)
        mirror = np.where(random.uniform(size=count) < 0.5, -1.0, 1.0) if self.flip else np.ones(count)
        shifts = random.uniform(-self.shift, self.shift, (count, 2)) * [width, height]
        maps = np.zeros((count, 8), np.float32)
        # of an output's pixel to the input's: about the middle of the image
        maps[:, 0], maps[:, 4] = mirror * scale, scale
        maps[:, 2] = (width - 1) / 2 * (1 - maps[:, 0]) + shifts[:, 0]
        maps[:, 5] = (height - 1) / 2 * (1 - maps[:, 4]) + shifts[:, 1]
        light = np.array([1, 0]) + random.uniform(-self.light, self.light, (count, 2))
        return maps, light.astype(np.float32)


AUGMENTATIONS = {
    "none": Augmentation(),
    "light": Augmentation(flip=True, shift=0.08, zoom=0.1),
    "photo": Augmentation(flip=True, shift=0.08, zoom=0.2, light=0.2),
}


def changed(images: Any, maps: Any, light: Any) -> Any:
    """Images after the changes that were drawn; what comes in from outside repeats the edge."""
    images = ops.image.affine_transform(images, maps, interpolation="bilinear", fill_mode="nearest")
    contrast, brightness = (light[:, number, None, None, None] for number in (0, 1))
    middle = ops.mean(images, axis=(1, 2, 3), keepdims=True)
    return ops.clip((images - middle) * contrast + middle + brightness, 0, 1)
