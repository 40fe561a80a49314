"""Features or classes of many images as Parquet files, in a run that goes on where it was."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from hubkeras.bulk import rows as row_files
from hubkeras.bulk.choosing import AUTO, Choice
from hubkeras.bulk.journal import Journal
from hubkeras.bulk.models import ImageModel, open_image_model
from hubkeras.bulk.pipeline import Preparation
from hubkeras.bulk.rows import RowLayout
from hubkeras.bulk.running import check_run, in_fastest_runtime, outputs_of
from hubkeras.bulk.sources import Images, open_images
from hubkeras.common import addresses
from hubkeras.common.choices import Runtime
from hubkeras.common.errors import Error, reason
from hubkeras.common.locks import lock_file, unlock

ROWS_PER_FILE = 4096  # 20 MiB of 1280 features
_LOCK, JOURNAL = ".lock", ".reading"

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class EmbeddingSummary:
    """The result of a run.

    Attributes:
        path: the folder of Parquet files.
        rows: of all files.
        errors: rows of this run whose image could not be read.
        already_there: rows that an earlier run had written.
        seconds: that reading and inference took, without opening the model.
        content_hash: of the model.
        preprocessing: how the images were cut and resized, in words.
        outputs: what a classifier gives, in words, and how that is known; empty for a feature vector.
        left_out: `{kind: number}` of what the folders and tar shards hold besides images.
        choice: of the runtime, see `hubkeras.bulk.choosing.Choice`.
    """

    path: str
    rows: int
    errors: int
    already_there: int
    seconds: float
    content_hash: str
    preprocessing: str
    outputs: str
    left_out: dict[str, int]
    choice: Choice


def embed(
    model: str | os.PathLike[str],
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    task: str | None = None,
    top: int | None = None,
    resize: str | None = None,
    central_fraction: float | None = None,
    image_size: int | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    column: str | None = None,
    batch_size: int | None = None,
    runtime: str = AUTO,
    rows_per_file: int = ROWS_PER_FILE,
    safe_mode: bool = True,
    progress: Progress | None = None,
) -> EmbeddingSummary:
    """Computes features or classes of many images and writes them as Parquet files.

    Images are read, decoded and resized as `hubkeras.load_image` does, beside inference. Each file appears whole; a run
    that was stopped goes on after the files that are there. The columns are `path`, `features` or `labels` and
    `probabilities`, and `error`, which says why an image cannot be read.

    Args:
        model: the folder of a SavedModel, an archive of one, a handle, or an `.onnx`, `.tflite` or `.xml` file.
        images: paths, folders and globs of image files, of tar shards, of TFRecords with `image/encoded` and of Parquet
            files, or one of these.
        out: the folder to write, `part-00000.parquet` and so on.
        task: `classification` or `feature_vector`; by default classification where the model has a head.
        top: how many classes a row of a classifier has, at most; by default 5.
        resize: `squash`, or `crop`, which keeps proportions; by default as the model's metadata say.
        central_fraction: share of the height and of the width to cut out, in (0, 1]; by default as the model's metadata
            say: 0.875 for ImageNet networks, as Slim evaluated them, and 1 for all others.
        image_size: height and width in pixels; by default what the model was trained with.
        labels: class names, a list or a file with one a line; by default the model's own.
        column: of Parquet files, the one with the images: bytes, or paths.
        batch_size: how many images the model gets at once; by default as many as are fastest.
        runtime: what computes: `tensorflow`, `onnx`, `openvino` or `litert`; by default the fastest for this model on
            this machine whose outputs are TensorFlow's. A run that goes on keeps its own.
        rows_per_file: the same in every run into one folder.
        safe_mode: whether to refuse a model that could do more than compute.
        progress: called with the number of rows that there are and of all rows.

    Raises:
        hubkeras.Error: the model or the images cannot be opened, `out` holds rows of another model, other options or
            other images, it cannot be written, or not one of the images can be read; the rows that say why are written.

    Examples:
        >>> result = hubkeras.embed("build/digits", "photos", "rows", top=1)
        >>> result.rows, result.errors
        (4, 0)
    """
    if rows_per_file < 1:
        raise Error(f"rows_per_file must be at least 1; got {rows_per_file}.")
    asked = check_run(batch_size, central_fraction, resize, runtime)
    out = addresses.output(out)
    source = open_images(images, column, out)
    opened = open_image_model(model, task=task, image_size=image_size, labels=labels, safe_mode=safe_mode)
    preparation = Preparation.of(opened, resize, central_fraction)
    layout = RowLayout.of(opened, top)
    fingerprint = row_files.fingerprint(opened, layout, preparation, source.description(), rows_per_file=rows_per_file)
    parts = Parts(pathlib.Path(out), len(source), rows_per_file)
    with _locked(parts.folder):
        finished = parts.finished(fingerprint)
        begin = time.perf_counter()
        numbers = [number for part in parts if part not in finished for number in parts.numbers(part)]
        journal = Journal(parts.folder / JOURNAL, fingerprint["images"])
        journal.try_suspects(numbers, source.read)
        unsuspected = [number for number in numbers if number not in journal.suspects]
        kept = _kept_runtime(parts, finished, opened, asked)
        opened = in_fastest_runtime(
            opened, source, unsuspected, preparation, kept or asked, batch_size, safe_mode, journal
        )
        opened = _as_before(opened, kept, parts.folder)
        fingerprint |= row_files.runtime_texts(opened.choice)
        runner = Runner(opened, layout, source, preparation, parts, fingerprint, journal)
        errors = runner.write_missing_parts(finished, progress or (lambda done, total: None))
        already_there = sum(len(parts.numbers(part)) for part in finished)
        if errors == len(source) - already_there:  # this run has read none
            row_files.check_any_read(map(parts.file, parts), out)
    return EmbeddingSummary(
        path=str(out),
        rows=len(source),
        errors=errors,
        already_there=already_there,
        seconds=time.perf_counter() - begin,
        content_hash=opened.content_hash,
        preprocessing=preparation.describe(opened),
        outputs=opened.outputs,
        left_out=source.left_out,
        choice=opened.choice,
    )


def _kept_runtime(parts: "Parts", finished: Sequence[int], model: ImageModel, asked: Runtime | None) -> Runtime | None:
    """The runtime of the rows that are there, None where there are none; the run goes on in it."""
    if not finished:
        return None
    kept = row_files.runtime_of(parts.file(finished[0])) or model.opened.runtime
    if asked not in (None, kept):
        raise Error(f"{parts.folder} holds rows made in {kept}, and {asked} is asked for; leave the runtime out.")
    return kept


def _as_before(model: ImageModel, kept: Runtime | None, folder: pathlib.Path) -> ImageModel:
    """The model, whose runtime must be that of the rows that are there."""
    if kept is None:
        return model
    if model.choice.runtime != kept:
        raise Error(f"{folder} holds rows made in {kept}; here {model.choice.reason}; name another OUT.")
    choice = dataclasses.replace(model.choice, reason="as the rows that are there")
    return dataclasses.replace(model, choice=choice)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The files of a run: part `i` has the rows from `i * rows_per_file`."""

    folder: pathlib.Path
    rows: int
    rows_per_file: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(-(-self.rows // self.rows_per_file)))

    def file(self, part: int) -> pathlib.Path:
        """The path of a part."""
        return self.folder / f"part-{part:05}.parquet"

    def numbers(self, part: int) -> range:
        """The images of a part."""
        return range(part * self.rows_per_file, min((part + 1) * self.rows_per_file, self.rows))

    def finished(self, fingerprint: dict[str, str]) -> list[int]:
        """The parts that are there, all of them of this run; what a killed run left is taken away."""
        for leftover in self.folder.glob(".part-*.partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        known = {self.file(part): part for part in self}
        for path in sorted(self.folder.iterdir()):
            if path.suffix == ".parquet":
                row_files.check_agreement(path, fingerprint)
            if path not in known and not path.name.startswith("."):
                raise Error(f"{self.folder} holds {path.name}, which `hubkeras embed` did not write; name another OUT.")
        return [part for path, part in known.items() if path.exists()]


@dataclasses.dataclass(frozen=True)
class Runner:
    """Reads images, runs the model and writes the rows, part by part."""

    model: ImageModel
    layout: RowLayout
    images: Images
    preparation: Preparation
    parts: Parts
    fingerprint: dict[str, str]
    journal: Journal

    def write_missing_parts(self, finished: Sequence[int], progress: Progress) -> int:
        """Writes the parts that are not finished; returns how many of their images could not be read."""
        missing = sorted(set(self.parts) - set(finished))
        schema, errors = self.layout.schema(self.fingerprint), 0
        done, total = sum(len(self.parts.numbers(part)) for part in finished), len(self.images)
        with ThreadPoolExecutor(1) as writer:  # compressing a file takes the time of many images
            writing: Future[None] | None = None
            for part in missing:
                progress(done, total)
                rows = self._rows(part, progress, done)
                errors += sum(row["error"] is not None for row in rows)
                done += len(rows)
                if writing:
                    writing.result()
                writing = writer.submit(row_files.write, rows, schema, self.parts.file(part))
            if writing:
                writing.result()
        self.journal.close()
        progress(done, total)
        return errors

    def _rows(self, part: int, progress: Progress, done: int) -> list[dict[str, Any]]:
        values: dict[int, dict[str, Any]] = {}
        numbers = [number for number in self.parts.numbers(part) if number not in self.journal.suspects]
        for read, output in outputs_of(self.model, self.images, numbers, self.preparation, self.journal):
            values.update(zip(read.tolist(), self.layout.values(output), strict=True))
            progress(done + len(values), len(self.images))
        return [self._row(number, values.get(number)) for number in self.parts.numbers(part)]

    def _row(self, number: int, values: dict[str, Any] | None) -> dict[str, Any]:
        path, journal = self.images.path(number), self.journal
        if values is not None:
            return self.layout.row(path, values, None)
        if number in journal.fatal:
            return self.layout.row(path, None, row_files.printable(f"{path}: {journal.fatal[number]}."))
        journal.begin_alone(number)
        try:  # alone, to learn why, or because it can be read after all
            image = self.preparation.decode(self.images.read(number), path)
            (values,) = self.layout.values(self.model.run(image[np.newaxis]))
            return self.layout.row(path, values, None)
        except Error as error:
            return self.layout.row(path, None, row_files.printable(str(error)))
        finally:
            journal.end([number])


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Makes the folder, and keeps it from another run for as long as the block lasts."""
    made = [each for each in (folder, *folder.absolute().parents) if not each.exists()]
    try:
        is_new = not (folder / _LOCK).exists()
        held = lock_file(folder / _LOCK)
    except BlockingIOError as error:
        raise Error(f"Another run is writing to {folder}; wait for it, or name another OUT.") from error
    except OSError as error:
        raise Error(f"Cannot write to {folder}: {reason(error)}.") from error
    try:
        yield
    except BaseException:  # no trace of a run that wrote nothing
        if is_new and not next(folder.glob("part-*.parquet"), None):
            for name in (_LOCK, JOURNAL):
                (folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                for each in made:
                    each.rmdir()
        raise
    finally:
        unlock(held)
