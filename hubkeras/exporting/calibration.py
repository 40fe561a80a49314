"""Images to find the ranges of 8-bit integers with, and to check what was found."""

import os
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from hubkeras.common import addresses
from hubkeras.common.counts import UNREADABLE, added
from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.guards import contents, tars
from hubkeras.common.guards.arrays import header_of
from hubkeras.common.guards.permissions import check_ordinary
from hubkeras.common.guards.zips import open_zip
from hubkeras.common.preprocessing import WHOLE, Preprocessing
from hubkeras.consuming.images import load_image
from hubkeras.consuming.listing import list_folder

FEWEST_IMAGES, MOST_IMAGES, MOST_HELD_BACK = 10, 500, 50
_Items = TypeVar("_Items", bound=Any)


@dataclass(frozen=True)
class Calibration:
    """Images to find the ranges of 8-bit integers with.

    Attributes:
        images: four fifths of them, float32 `[number, size, size, 3]` in [0, 1].
        held_back: every fifth, at most 50, to check what was found.
        preprocessing: how they were cut and resized, in words.
        left_out: `{kind: number}` of what lies in the folder or archive and was not taken, or could not be read.
    """

    images: np.ndarray
    held_back: np.ndarray
    preprocessing: str
    left_out: Mapping[str, int]

    def facts(self) -> dict[str, Any]:
        """What a report says, JSON-ready."""
        counts = {"images": len(self.images), "held_back": len(self.held_back)}
        return {**counts, "preprocessing": self.preprocessing, "left_out": self.left_out}


def calibration_images(
    source: str | os.PathLike[str] | np.ndarray, size: int, preprocessing: Preprocessing = WHOLE
) -> Calibration:
    """Images to find the ranges of 8-bit integers with, and others of the same kind to check them.

    Args:
        source: a folder of images, searched below too, or a tar archive of them; an `.npz` file with one array; or an
            array `[number, height, width, 3]`, RGB, float in [0, 1] or uint8, of the size that is asked for. Of more
            than 500 images every so many is taken.
        size: height and width in pixels.
        preprocessing: how the network's images are cut, see its metadata.

    Returns:
        A `Calibration`.

    Raises:
        hubkeras.Error: there are fewer than ten images that can be read, or they are of another kind.
    """
    source = source if isinstance(source, np.ndarray) else addresses.local(source)
    images, cut, left_out = _calibration_array(source, size, preprocessing)
    if len(images) < FEWEST_IMAGES:
        found = f"there {'is' if len(images) == 1 else 'are'} {len(images) or 'none'} in {_named(source)}"
        raise Error(f"8-bit integers need 100 to 500 images of the kind that the network will see; {found}.")
    held_back = np.arange(len(images)) % 5 == 4
    return Calibration(images[~held_back], images[held_back][:MOST_HELD_BACK], cut, left_out)


def _named(source: str | np.ndarray) -> str:
    return "the array" if isinstance(source, np.ndarray) else source


def _calibration_array(
    source: str | np.ndarray, size: int, preprocessing: Preprocessing
) -> tuple[np.ndarray, str, Mapping[str, int]]:
    """The images, how they were cut, in words, and what was left out."""
    if isinstance(source, np.ndarray) or source.endswith(".npz"):
        array = source if isinstance(source, np.ndarray) else _npz_array(source)
        if array.shape[1:] != (size, size, 3) or not (array.dtype == np.uint8 or array.dtype.kind == "f"):
            expected = f"[number, {size}, {size}, 3], float in [0, 1] or uint8"
            raise Error(f"{_named(source)} has images {list(array.shape)} of {array.dtype}; expected {expected}.")
        array, left_out = thinned(array)
        array = (array / 255 if array.dtype == np.uint8 else array).astype(np.float32)
        if array.size and not (array.min() >= 0 and array.max() <= 1):
            raise Error(f"{_named(source)} has images in [{array.min():.4g}, {array.max():.4g}]; expected [0, 1].")
        return array, "as they are in the array", left_out
    folder = pathlib.Path(source)
    if not folder.exists():
        raise Error(f"There are no images at {folder}; name a folder, a tar archive or an .npz file.")
    with TemporaryFolder() as scratch:
        if folder.is_file():
            tars.unpack(folder, scratch)
            folder = pathlib.Path(scratch)
        listing = list_folder(folder)
        paths, unused = thinned(listing.files)
        cut = (preprocessing.central_fraction, preprocessing.resize)
        images: list[np.ndarray] = []
        errors: list[Error] = []
        for path in paths:
            try:
                images.append(load_image(path, size, *cut))
            except Error as error:
                errors.append(error)
    if errors and len(images) < FEWEST_IMAGES:
        raise errors[0]
    array = np.stack(images) if images else np.zeros((0, size, size, 3), np.float32)
    unreadable = {UNREADABLE: len(errors)} if errors else {}
    return array, f"{preprocessing} to {size} x {size} pixels", added([unused, unreadable, listing.left_out])


def _npz_array(path: str) -> np.ndarray:
    """The array in an `.npz` file with no other, whose header is checked before it is read."""
    check_ordinary(path)
    try:
        with open_zip(path) as archive:
            (member,) = archive.infolist()
            header_of(archive, member)
        with np.load(path) as file:
            return file[member.filename.removesuffix(".npy")]
    except Error:
        raise
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        contents.refuse(path, only=contents.DOWNLOADS)
        raise Error(f"{path} is not an .npz file with one array, of images.") from error


def thinned(items: _Items) -> tuple[_Items, dict[str, int]]:
    """At most `MOST_IMAGES` of the items, every so many of them, and the number of the others as `left_out` has it."""
    taken = items[:: max(1, -(-len(items) // MOST_IMAGES))]
    return taken, {f"images beyond {MOST_IMAGES}": len(items) - len(taken)} if len(taken) < len(items) else {}
