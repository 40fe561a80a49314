"""A model over many images: in the runtime that is fastest for them, each batch read and decoded beside the others."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hubkeras.bulk.choosing import (
    AUTO,
    FEWEST,
    ONE_CALL,
    SAMPLE,
    Choice,
    Sample,
    Subject,
    choose,
    fastest_setup,
    in_pieces,
)
from hubkeras.bulk.converted import Convertible
from hubkeras.bulk.journal import NO_JOURNAL, Journal
from hubkeras.bulk.models import ImageModel
from hubkeras.bulk.pipeline import Batch, Preparation, read_batches, run_batches
from hubkeras.bulk.sources import Source
from hubkeras.common.choices import Runtime, Task
from hubkeras.common.errors import Error
from hubkeras.common.extras import extra
from hubkeras.common.head_layers import SOFTMAX
from hubkeras.consuming.images import check_size
from hubkeras.consuming.predictions import shares_of
from hubkeras.runtimes import files
from hubkeras.runtimes.opening import RunnableModel, open_model
from hubkeras.runtimes.scores import Run, Scores

_MANY = 1 << 30  # images
_READ_AT_ONCE = 16  # images, for calls with fewer
_FEW_CLASSES = 5  # all of whose logits may be near 0, so that their probabilities are compared


def check_run(
    batch_size: int | None, central_fraction: float | None, resize: str | None, runtime: str
) -> Runtime | None:
    """The runtime that is asked for, None for `auto`.

    Raises:
        hubkeras.Error: an argument that all runs have is out of range, or the runtime is not installed.
    """
    if batch_size is not None and batch_size < 1:
        raise Error(f"batch_size must be at least 1; got {batch_size}.")
    check_size(1, central_fraction, resize)
    if runtime == AUTO:
        return None
    asked = Runtime.of(runtime, "runtime (--runtime)") if runtime in list(Runtime) else None
    if asked is None:
        raise Error(f"runtime (--runtime) must be one of {', '.join((AUTO, *Runtime))}; got {runtime!r}.")
    if asked != Runtime.TENSORFLOW:
        extra(asked, files.BY_RUNTIME[asked].package)
    return asked


def outputs_of(
    model: ImageModel, images: Source, numbers: Sequence[int], preparation: Preparation, journal: Journal = NO_JOURNAL
) -> Iterator[Batch]:
    """Yields what a model makes of images, in order: pairs of their numbers and its outputs; see `read_batches`."""
    size = max(model.choice.batch_size, _READ_AT_ONCE)
    batches = read_batches(images, numbers, preparation, size, journal)
    return run_batches(in_pieces(model.run, model.choice.batch_size), batches, model.choice.streams)


def in_fastest_runtime(
    model: ImageModel,
    images: Source,
    numbers: Sequence[int],
    preparation: Preparation,
    runtime: Runtime | None = None,
    batch_size: int | None = None,
    safe_mode: bool = True,
    journal: Journal = NO_JOURNAL,
) -> ImageModel:
    """The model in the runtime that is fastest for these images, see `hubkeras.bulk.choosing`.

    Args:
        model: as it was opened.
        images, numbers, preparation, journal: as for `read_batches`.
        runtime: the one to use where its outputs are equal; None is the fastest.
        batch_size: images of a call, by default as many as are fastest.
        safe_mode: with which the model was opened.

    Raises:
        hubkeras.Error: the model cannot be run in that runtime.
    """
    sample = functools.partial(_first_images, images, numbers, preparation, journal)
    if model.opened.runtime == Runtime.TENSORFLOW:
        run, choice = choose(_subject(model), runtime, batch_size, sample, len(numbers))
    else:
        run, choice = _file_setup(model, runtime, batch_size, safe_mode, sample, len(numbers))
    return dataclasses.replace(model, run=run, choice=choice)


def _random_images(size: Sequence[int]) -> np.ndarray:
    return np.random.RandomState(0).uniform(0, 1, (SAMPLE, *size, 3)).astype(np.float32)


def for_single_calls(model: ImageModel, runtime: Runtime | None, batch_size: int) -> ImageModel:
    """As `in_fastest_runtime`, where calls come one by one, of any number of images that are not known yet."""
    random = _random_images(model.image_size)
    if model.opened.runtime != Runtime.TENSORFLOW:
        run, choice = _file_setup(model, runtime, batch_size, True, lambda: Sample(random, 0.0), 0)
    else:
        subject = _subject(model)
        run, choice = choose(subject, runtime, None, lambda: Sample(random, 0.0), _MANY, setups=ONE_CALL)
    return dataclasses.replace(model, run=in_pieces(run, choice.batch_size), choice=choice)


def features_in_fastest_runtime(
    network: Any,
    run: Run,
    images: Source,
    numbers: Sequence[int],
    preparation: Preparation,
    runtime: Runtime | None,
    journal: Journal,
) -> tuple[Run, Choice]:
    """As `in_fastest_runtime`, of the features that `run` computes of a network in memory."""

    def open_run(path: str, threads: int, streams: int) -> Run:
        return open_model(path, threads=threads, streams=streams).run

    sample = functools.partial(_first_images, images, numbers, preparation, journal)
    subject = Subject(network.name, run, Convertible.of_network(network), open_run)
    fastest, choice = choose(subject, runtime, None, sample, len(numbers))
    return in_pieces(fastest, choice.batch_size), choice


def _subject(model: ImageModel) -> Subject:
    def open_run(path: str, threads: int, streams: int) -> Run:
        return _run(open_model(path, task=model.task, threads=threads, streams=streams), model.width)

    shares: Callable[[np.ndarray], np.ndarray] | None = None
    if model.probabilities:
        shares = np.asarray
    elif model.labels and model.width < _FEW_CLASSES:
        shares = functools.partial(shares_of, activation=SOFTMAX)
    return Subject(model.name, model.run, Convertible.of(model.opened), open_run, shares)


def _run(opened: RunnableModel, width: int) -> Run:
    return Scores.of(opened, width).run if opened.task == Task.CLASSIFICATION else opened.run


def _file_setup(
    model: ImageModel,
    runtime: Runtime | None,
    batch_size: int | None,
    safe_mode: bool,
    sample: Callable[[], Sample],
    count: int,
) -> tuple[Run, Choice]:
    """What runs a file that is for one runtime, and how."""
    opened = model.opened
    title = files.BY_RUNTIME[opened.runtime].title
    if runtime not in (None, opened.runtime):
        raise Error(f"{model.name} runs in {title} alone, and {runtime} was asked for; leave the runtime out.")
    fixed = opened.session.shape[0] if opened.session.shape else None
    if isinstance(fixed, int) and fixed > 0:
        batch_size = fixed
    choice = dataclasses.replace(model.choice, batch_size=batch_size or model.choice.batch_size)
    first = sample() if count >= FEWEST else None
    if first is None:
        return model.run, choice

    def open_run(threads: int, streams: int) -> Run:
        height, width = opened.image_size
        size = height if height == width else None  # which a file may not say itself
        again = open_model(opened.path, image_size=size, threads=threads, safe_mode=safe_mode, streams=streams)
        return _run(again, model.width)

    rate, run, fastest = fastest_setup(open_run, opened.runtime, first, batch_size=batch_size)
    rates = {str(opened.runtime): round(rate, 1)}
    return run, dataclasses.replace(fastest, reason=choice.reason, images_per_second=rates)


def _first_images(images: Source, numbers: Sequence[int], preparation: Preparation, journal: Journal) -> Sample:
    begin, first = time.process_time(), numbers[:SAMPLE]
    batches = [pixels for _, pixels in read_batches(images, first, preparation, len(first) or 1, journal)]
    decoding = (time.process_time() - begin) / max(1, sum(map(len, batches)))
    return Sample(np.concatenate(batches) if batches else _random_images(preparation.size), decoding)
