"""Classes of a few images: what they show, by name, with a picture of it."""

import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hubkeras.bulk.choosing import AUTO, Choice
from hubkeras.bulk.models import open_image_model
from hubkeras.bulk.pipeline import Preparation
from hubkeras.bulk.reports import drawing
from hubkeras.bulk.rows import TOP, RowLayout
from hubkeras.bulk.running import check_run, in_fastest_runtime, outputs_of
from hubkeras.bulk.sources import Files, Images, Source, list_images, names_of, sources
from hubkeras.common import addresses
from hubkeras.common.choices import Task
from hubkeras.common.counts import none_read
from hubkeras.common.errors import Error
from hubkeras.common.labels import Labels
from hubkeras.common.marks import WRITTEN_BY
from hubkeras.common.staging import refuse_existing, staged
from hubkeras.consuming import downloads
from hubkeras.consuming.decoding import decode_pixels

MOST_DRAWN = 24  # images of a picture
_COLUMNS = 4  # of a picture
_SIDE = 320  # pixels of each image in it, at most
_WITHIN_BAR = 0.7  # probabilities above this are written into their bars
_LONGEST_NAME = 28  # letters of a class in it


@dataclasses.dataclass(frozen=True)
class Classified:
    """The classes of an image.

    Attributes:
        image: its path or address; of an image in a file, `<path of that>#<name or number>`.
        classes: (name, probability) of the likeliest classes, the likeliest first; empty where it cannot be read.
        error: why it cannot be read, or None.
    """

    image: str
    classes: tuple[tuple[str, float], ...]
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Classification:
    """The outcome of `classify`: a `Classified` for each image, and what holds for all of them.

    Attributes:
        model: as it was given.
        images: one for each image, in the order in which they were given.
        preprocessing: how the images were cut and resized, in words.
        outputs: what the model gives, in words, and how that is known.
        choice: of the runtime, see `hubkeras.bulk.choosing.Choice`.
        source: the images themselves, for a picture.
        missing: names that were given and name no image; `images` says why.
    """

    model: str
    images: list[Classified]
    preprocessing: str
    outputs: str
    choice: Choice
    source: Source = dataclasses.field(repr=False)
    missing: Sequence[str] = ()

    def __iter__(self) -> Iterator[Classified]:
        return iter(self.images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> Classified:
        return self.images[number]


def classify(
    model: str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    top: int = TOP,
    *,
    labels: Labels = None,
    resize: str | None = None,
    central_fraction: float | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    runtime: str = AUTO,
    safe_mode: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Classification:
    """Names what images show.

    They are read as by `hubkeras.load_image`, upright, and cut as the model's metadata say.

    Args:
        model: the folder of a SavedModel, an archive of one, a handle, or an `.onnx`, `.tflite` or `.xml` file, with a
            classification head.
        images: what `hubkeras.embed` takes: paths, folders and globs; or http(s) addresses of images; or one of these.
        top: how many classes an image has; all where there are fewer.
        labels, resize, central_fraction, image_size, batch_size, runtime, safe_mode: as for `hubkeras.embed`.
        progress: called with the number of images done and of all.

    Returns:
        A `Classification`: for each image its path and (name, probability) of its likeliest classes, float in [0, 1].

    Raises:
        hubkeras.Error: the model has no head or cannot be opened, there are no images, or none can be read. Where some
            can, the others have an `error`.

    Examples:
        >>> for image in hubkeras.classify("build/digits", ["photos/1/a.png", "photos/2/a.png"], top=1):
        ...     print(image.image, len(image.classes))
        photos/1/a.png 1
        photos/2/a.png 1
    """
    asked = check_run(batch_size, central_fraction, resize, runtime)
    found, missing = _open(images)
    opened = open_image_model(
        model, task=Task.CLASSIFICATION, image_size=image_size, labels=labels, safe_mode=safe_mode
    )
    layout, preparation = RowLayout.of(opened, top), Preparation.of(opened, resize, central_fraction)
    show, count = progress or (lambda done, total: None), len(found)
    show(0, count)
    rows: dict[int, dict[str, Any]] = {}
    opened = in_fastest_runtime(opened, found, range(count), preparation, asked, batch_size, safe_mode)
    for numbers, output in outputs_of(opened, found, range(count), preparation):
        rows.update(zip(numbers.tolist(), layout.values(output), strict=True))
        show(len(rows), count)
    classified = [_classified(found, number, rows.get(number), preparation) for number in range(count)]
    if not rows:
        many = f"{none_read(count)} " if count > 1 else ""
        raise Error(f"{many}{classified[0].error}")
    show(count, count)
    words = preparation.describe(opened)
    return Classification(opened.name, classified, words, opened.outputs, opened.choice, found, missing)


def _open(images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[Images, list[str]]:
    """The images as one source, in the order in which they were given, each file once; and the names of none."""
    names = names_of(images)
    if not names:
        raise Error("There is no image to classify; give the path of one, or a folder of them.")
    files: dict[str, None] = {}
    missing: dict[str, Error] = {}
    for name in map(addresses.local, names):
        try:
            files |= dict.fromkeys([name] if addresses.is_url(name) else list_images(name).files)
        except Error as error:
            files[name], missing[name] = None, error
    if len(missing) == len(files):
        raise next(iter(missing.values()))
    parts: list[Source] = []
    for kind, group in itertools.groupby(files, lambda name: (name in missing, addresses.is_url(name))):
        paths, (is_missing, is_url) = list(group), kind
        parts += [_Missing(paths, missing)] if is_missing else [_Web(paths)] if is_url else sources(paths)
    return Images(parts), list(missing)


class _Missing(Files):
    """Names of no images."""

    def __init__(self, paths: Sequence[str], errors: Mapping[str, Error]) -> None:
        super().__init__(paths)
        self.errors = errors

    def read(self, number: int) -> bytes:
        raise self.errors[self.paths[number]]


class _Web(Files):
    """Images of web servers, fetched into the cache when they are read."""

    def read(self, number: int) -> bytes:
        return Files([os.fspath(downloads.fetch(self.paths[number]))]).read(0)


def _classified(images: Images, number: int, row: dict[str, Any] | None, preparation: Preparation) -> Classified:
    path = images.path(number)
    if row is not None:
        return Classified(path, tuple(zip(row["labels"], map(float, row["probabilities"]), strict=True)))
    try:  # once more, to learn why
        preparation.decode(images.read(number), path)
    except Error as error:
        return Classified(path, (), str(error))
    return Classified(path, (), f"{path} could not be read at first, and can now; try again.")


# --- a picture


def check_picture(path: str | os.PathLike[str], overwrite: bool = False, inputs: Sequence[object] = ()) -> None:
    """Raises hubkeras.Error where `draw` cannot write to a path; `inputs` are what else the command reads."""
    drawing()
    if not os.fspath(path).lower().endswith(".png"):
        raise Error(f"{os.fspath(path)} is no name of a picture that can be written; give one that ends in .png.")
    refuse_existing(path, overwrite, inputs)


def draw(classification: Classification, path: str | os.PathLike[str], overwrite: bool = False) -> int:
    """Writes a PNG file of the images, each with its classes as bars below it.

    Args:
        classification: of `classify`; the first 24 images that could be read are drawn.
        path: of the picture.
        overwrite: whether to replace a picture that hubkeras wrote.

    Returns:
        How many images are drawn.

    Raises:
        hubkeras.Error: the file exists or cannot be written, or matplotlib is not installed.
    """
    pyplot = drawing()
    drawn = [number for number, image in enumerate(classification) if image.error is None][:MOST_DRAWN]
    columns = min(len(drawn), _COLUMNS)
    rows = math.ceil(len(drawn) / columns)
    below = 0.3 + 0.25 * max(len(classification[number].classes) for number in drawn)  # inches
    figure, axes = pyplot.subplots(
        *(2 * rows, columns),
        figsize=(3.4 * columns, rows * (3 + below)),
        height_ratios=[3, below] * rows,
        layout="constrained",
        squeeze=False,
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for place, number in enumerate(drawn):
        row, column = divmod(place, columns)
        image = classification[number]
        axes[2 * row, column].imshow(_thumbnail(classification.source.read(number), image.image))
        axes[2 * row, column].set_title(_shortened(os.path.basename(image.image)), fontsize=9, parse_math=False)
        _draw_bars(image.classes, axes[2 * row + 1, column])
    try:
        with staged(path, overwrite) as partial:
            figure.savefig(partial, dpi=110, format="png", metadata={"Software": WRITTEN_BY})
    except OSError as error:
        raise Error(f"Cannot write {os.fspath(path)}: {error.strerror or error}.") from error
    finally:
        pyplot.close(figure)
    return len(drawn)


def _draw_bars(classes: Sequence[tuple[str, float]], axis: Any) -> None:
    axis.set_axis_on()
    places, shares = range(len(classes))[::-1], [share for _, share in classes]
    axis.barh(places, shares, color="tab:blue")
    axis.set_yticks(places, [_shortened(name) for name, _ in classes], fontsize=8, parse_math=False)
    for place, share in zip(places, shares, strict=True):
        inside = share > _WITHIN_BAR
        options = {"ha": "right", "color": "white"} if inside else {"ha": "left", "color": "black"}
        axis.text(share, place, f" {share:.3f} ", va="center", fontsize=8, **options)
    axis.set(xlim=(0, 1), xticks=[])
    axis.spines[:].set_visible(False)


def _thumbnail(data: bytes, path: str) -> np.ndarray:
    """The whole image, upright, as uint8 `[height, width, 3]` of at most 320 pixels a side."""
    pixels = decode_pixels(data, path)
    step = -(-max(pixels.shape[:2]) // _SIDE)
    return pixels[::step, ::step]


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 3]}..."
