"""The run of `hubkeras embed` on Apache Beam: the same images, the same rows, on as many machines as a runner has."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from hubkeras.bulk import rows as row_files
from hubkeras.bulk.choosing import AUTO
from hubkeras.bulk.containers import open_local
from hubkeras.bulk.models import ImageModel, Labels, open_image_model
from hubkeras.bulk.pipeline import Preparation
from hubkeras.bulk.rows import RowLayout, printable
from hubkeras.bulk.running import check_run, for_single_calls
from hubkeras.bulk.sources import Images, is_container, list_images, sources
from hubkeras.common import addresses
from hubkeras.common.counts import added
from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import installation
from hubkeras.consuming.handles import absolute

try:
    import apache_beam as beam
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.ml.inference import base
    from apache_beam.options.pipeline_options import PipelineOptions
except ModuleNotFoundError as error:
    text = f"{error.name} is not installed; `{installation('hubkeras[beam]')}` installs it."
    raise ModuleNotFoundError(text, name=error.name) from error

BATCH_SIZE = 32
_CHUNK = 64  # images that one worker reads in a row
_OPEN_CONTAINERS = 8  # of a process, whose headers need not be read anew for each chunk
_REMOTE = "://"
_UNREADABLE = "unreadable"


class ModelHandler(base.ModelHandler[np.ndarray, base.PredictionResult, ImageModel]):
    """A model for Beam's `RunInference`: a SavedModel, loaded by TensorFlow, or a file for a runtime.

    Examples are float32 `[height, width, 3]`, RGB in [0, 1], all of one size; the inference of each is float32
    `[width]`, features or logits. There is one model a process, whatever number of threads it has.
    Workers need neither Keras nor tensorflow_hub.

    Args:
        handle: the folder of a SavedModel, an archive of one, its http(s) URL or handle, or an `.onnx`, `.tflite` or
            `.xml` file, which every worker must find under this name.
        task: `classification` or `feature_vector`; by default classification where the model has a head.
        image_size: height and width in pixels, where the model does not say it.
        safe_mode: whether to refuse a model that could do more than compute.
        runtime: what computes, as for `hubkeras.embed`; each worker chooses where it is `auto`.
        min_batch_size, max_batch_size: of the batches that Beam makes.
        options: more of Beam's, such as `max_batch_duration_secs`, `large_model` and `model_copies`.

    Examples:
        >>> handler = hubkeras.beam.ModelHandler("build/digits", max_batch_size=8)
        >>> (result,) = handler.run_inference([np.zeros((96, 96, 3), "float32")], handler.load_model())
        >>> result.inference.shape
        (11,)
    """

    def __init__(
        self,
        handle: str | os.PathLike[str],
        *,
        task: str | None = None,
        image_size: int | None = None,
        safe_mode: bool = True,
        runtime: str = AUTO,
        min_batch_size: int = 1,
        max_batch_size: int = BATCH_SIZE,
        **options: Any,
    ) -> None:
        super().__init__(min_batch_size=min_batch_size, max_batch_size=max_batch_size, **options)
        self.handle, self.task, self.image_size = absolute(handle), task, image_size
        self.safe_mode, self.runtime = safe_mode, check_run(None, None, None, runtime)

    def load_model(self) -> ImageModel:
        """Opens the model; raises hubkeras.Error where it cannot."""
        model = open_image_model(self.handle, task=self.task, image_size=self.image_size, safe_mode=self.safe_mode)
        return for_single_calls(model, self.runtime, BATCH_SIZE)

    def run_inference(
        self, batch: Sequence[np.ndarray], model: ImageModel, inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[base.PredictionResult]:
        """Yields a `PredictionResult` for each image of a batch; there are no inference arguments."""
        for image, output in zip(batch, model.run(np.stack(batch)), strict=True):
            yield base.PredictionResult(image, output, self.handle)

    def get_num_bytes(self, batch: Sequence[np.ndarray]) -> int:
        """Bytes of the images of a batch, for Beam's metrics."""
        return sum(image.nbytes for image in batch)

    def get_metrics_namespace(self) -> str:
        """Under which name Beam's metrics are kept."""
        return "hubkeras"

    def validate_inference_args(self, inference_args: Mapping[str, Any] | None) -> None:
        """Raises hubkeras.Error for inference arguments."""
        if inference_args:
            raise Error(f"hubkeras' ModelHandler takes no inference arguments; got {', '.join(inference_args)}.")


class EmbedImages(beam.PTransform):
    """Images to rows with features or classes.

    Elements are paths, folders and globs (of this machine or of any file system that Beam knows, `gs://...`) of what
    `hubkeras.embed` takes, or pairs of a path and the bytes of an image. The model is opened here too, to know the
    size of the images, so it must be found where the pipeline is made.

    The result is a dict of two collections: `rows`, a dict each of `path`, `features` (float32 `[num_features]`) or
    `labels` and `probabilities`, and `error`, which is None; and `unreadable`, rows of the same keys with the reason in
    `error`, for images, files and patterns that cannot be read.

    Args:
        model: as for `ModelHandler`.
        task, image_size, labels, top, resize, central_fraction, column, batch_size, runtime, safe_mode: as for
            `hubkeras.embed`.

    Raises:
        hubkeras.Error: the model cannot be opened, or an argument does not fit it.

    Examples:
        >>> with beam.Pipeline() as pipeline:
        ...     results = pipeline | beam.Create(["photos"]) | hubkeras.beam.EmbedImages("build/digits", top=1)
        ...     _ = results["rows"] | beam.Map(lambda row: row["labels"])
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        task: str | None = None,
        top: int | None = None,
        resize: str | None = None,
        central_fraction: float | None = None,
        image_size: int | None = None,
        labels: Labels = None,
        column: str | None = None,
        batch_size: int | None = None,
        runtime: str = AUTO,
        safe_mode: bool = True,
    ) -> None:
        super().__init__()
        check_run(batch_size, central_fraction, resize, runtime)
        opened = open_image_model(model, task=task, image_size=image_size, labels=labels, safe_mode=safe_mode)
        self.layout, self.column = RowLayout.of(opened, top), column
        self.preparation = Preparation.of(opened, resize, central_fraction)
        self.handler = ModelHandler(
            model,
            task=opened.task,
            image_size=image_size,
            safe_mode=safe_mode,
            runtime=runtime,
            max_batch_size=batch_size or BATCH_SIZE,
        )
        self.fingerprint = {**row_files.fingerprint(opened, self.layout, self.preparation), row_files.RUNTIME: runtime}

    def expand(self, inputs: beam.PCollection) -> dict[str, beam.PCollection]:
        """The collections `rows` and `unreadable`."""
        chunks = inputs | "List" >> beam.ParDo(_List(self.column)).with_outputs(_UNREADABLE, main="chunks")
        # otherwise the one worker that lists would also read and compute; from here on all is one stage, since a local
        # runner keeps in memory what goes from one to the next
        spread = chunks.chunks | "Spread" >> beam.Reshuffle()
        images = spread | "Read" >> beam.ParDo(_Read(self.preparation)).with_outputs(_UNREADABLE, main="images")
        outputs = images.images | "Infer" >> base.RunInference(base.KeyedModelHandler(self.handler))
        unreadable = (chunks[_UNREADABLE], images[_UNREADABLE]) | "All unreadable" >> beam.Flatten()
        return {
            "rows": outputs | "Rows" >> beam.MapTuple(functools.partial(_row, self.layout)),
            _UNREADABLE: unreadable | "Errors" >> beam.MapTuple(functools.partial(_error_row, self.layout)),
        }


def _row(layout: RowLayout, path: str, result: base.PredictionResult) -> dict[str, Any]:
    (values,) = layout.values(result.inference[np.newaxis])
    return layout.row(path, values, None)


def _error_row(layout: RowLayout, path: str, error: str) -> dict[str, Any]:
    return layout.row(path, None, error)


def _unreadable(path: str, error: Error) -> beam.pvalue.TaggedOutput:
    return beam.pvalue.TaggedOutput(_UNREADABLE, (path, str(error)))


@dataclasses.dataclass(frozen=True)
class _Chunk:
    """Images of files that one worker reads, by their numbers."""

    paths: tuple[str, ...]
    column: str | None
    numbers: range


def _open(path: str) -> BinaryIO:
    if _REMOTE not in path:
        return open_local(path)
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


@functools.lru_cache(_OPEN_CONTAINERS)
def _container(path: str, column: str | None) -> Images:
    return Images(sources([path], column, _open))


def _images(chunk: _Chunk) -> Images:
    is_one = is_container(chunk.paths[0])
    return _container(chunk.paths[0], chunk.column) if is_one else Images(sources(chunk.paths, None, _open))


def _matches(pattern: str) -> list[str]:
    """The files of a pattern, of this machine or of another file system."""
    if _REMOTE not in pattern:
        return list_images(pattern).files
    try:
        (match,) = FileSystems.match([pattern])
    except Exception as error:  # a file system's own
        raise Error(f"{pattern} cannot be listed: {first_line(error)}") from error
    if not match.metadata_list:
        raise Error(f"{pattern} matches nothing.")
    return sorted(file.path for file in match.metadata_list)


class _List(beam.DoFn):
    """From patterns, files (a tuple of paths) and pairs of path and bytes to chunks, and pairs as they are."""

    def __init__(self, column: str | None) -> None:
        self.column = column

    def process(self, element: Any) -> Iterator[Any]:
        if isinstance(element, tuple) and len(element) == 2 and isinstance(element[1], bytes):
            yield element
            return
        try:
            files = list(element) if isinstance(element, tuple) else _matches(os.fspath(element))
        except Error as error:
            yield _unreadable(os.fspath(element), error)
            return
        images = [path for path in files if not is_container(path)]
        for start in range(0, len(images), _CHUNK):
            paths = tuple(images[start : start + _CHUNK])
            yield _Chunk(paths, None, range(len(paths)))
        for path in filter(is_container, files):
            try:
                count = len(_container(path, self.column))
            except Error as error:  # it is not whole
                yield _unreadable(path, error)
                continue
            for start in range(0, count, _CHUNK):
                yield _Chunk((path,), self.column, range(start, min(start + _CHUNK, count)))


class _Read(beam.DoFn):
    """From chunks and pairs of path and bytes to pairs of path and float32 `[height, width, 3]`."""

    def __init__(self, preparation: Preparation) -> None:
        self.preparation = preparation

    def process(self, element: _Chunk | tuple[str, bytes]) -> Iterator[Any]:
        for path, read in self._contents(element):
            try:
                yield path, self.preparation.decode(read(), path)
            except Error as error:
                yield _unreadable(path, error)

    def _contents(self, element: _Chunk | tuple[str, bytes]) -> Iterator[tuple[str, Callable[[], bytes]]]:
        if isinstance(element, tuple):
            path, data = element
            yield path, lambda: data
            return
        images = _images(element)
        for number in element.numbers:
            yield images.path(number), functools.partial(images.read, number)


def _check_remote(folder: str) -> None:
    """Raises hubkeras.Error unless Beam can write to an address."""
    try:
        FileSystems.get_filesystem(folder)
    except ValueError as error:
        scheme = folder.split(_REMOTE)[0]
        raise Error(
            f"Beam has no file system for {folder}; install the part of it for {scheme} (apache-beam[gcp], [aws] or "
            "[azure]), or name a local path."
        ) from error


def _written(folder: str) -> Iterator[BinaryIO]:
    """Opens the files of a run, one by one."""
    for match in FileSystems.match([f"{folder}/part-*.parquet"]):
        for file in match.metadata_list:
            with FileSystems.open(file.path) as opened:
                yield opened


@dataclasses.dataclass(frozen=True)
class BeamSummary:
    """The result of a run on Beam.

    Attributes:
        path: the folder of Parquet files.
        content_hash, outputs, preprocessing: as of `hubkeras.bulk.embedding.EmbeddingSummary`.
        left_out: `{kind: number}` of what local folders hold besides images, but not of other members of tar shards.
    """

    path: str
    content_hash: str
    outputs: str
    preprocessing: str
    left_out: dict[str, int]


def embed(
    model: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    pipeline_arguments: Sequence[str] = (),
    **options: Any,
) -> BeamSummary:
    """The run of `hubkeras.embed` on Beam: the same rows, in files of Beam's number and order.

    Args:
        model: see `EmbedImages`.
        images: as for `hubkeras.embed`; patterns with `://` are left to Beam's file systems.
        out: the folder of Parquet files; there must be none in it, since Beam has no runs that go on.
        pipeline_arguments: Beam's options, `--runner=...` and the runner's.
        options: of `EmbedImages`.

    Raises:
        hubkeras.Error: an argument does not fit, there are rows in `out`, or not one of the images can be read.
    """
    folder = addresses.local(out)
    if _REMOTE in folder:
        _check_remote(folder)
    else:
        folder = os.path.abspath(folder)
        if next(pathlib.Path(folder).glob("*.parquet"), None):
            raise Error(f"{out} holds rows already, and a Beam run always begins anew; name another OUT.")
    transform = EmbedImages(model, **options)
    patterns = [addresses.local(pattern) for pattern in images]
    listings = {pattern: list_images(pattern, folder) for pattern in patterns if _REMOTE not in pattern}
    elements: list[Any] = [pattern for pattern in patterns if pattern not in listings]
    for listing in listings.values():
        elements += [tuple(listing.files[start : start + _CHUNK]) for start in range(0, len(listing.files), _CHUNK)]
    if not elements:
        raise Error("There are no images.")
    schema = transform.layout.schema({**transform.fingerprint, "images": " ".join(map(printable, patterns))})
    with beam.Pipeline(options=PipelineOptions(list(pipeline_arguments))) as pipeline:
        outputs = pipeline | "Images" >> beam.Create(elements) | "Embed" >> transform
        everything = (outputs["rows"], outputs[_UNREADABLE]) | "All rows" >> beam.Flatten()
        _ = everything | "Write" >> beam.io.WriteToParquet(
            f"{folder}/part", schema, codec="zstd", file_name_suffix=".parquet"
        )
    row_files.check_any_read(_written(folder), folder)
    return BeamSummary(
        path=folder,
        content_hash=transform.fingerprint["model"],
        outputs=transform.fingerprint["outputs"],
        preprocessing=str(transform.preparation),
        left_out=added(listing.left_out for listing in listings.values()),
    )
