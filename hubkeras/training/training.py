"""`train`: images in, a checked classifier out."""

import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hubkeras.architectures.network import SlimNetwork
from hubkeras.bulk import reports
from hubkeras.bulk.evaluating import Evaluation, evaluate
from hubkeras.bulk.label_sets import LabelSets
from hubkeras.bulk.stored import open_features
from hubkeras.common.counts import UNREADABLE, added
from hubkeras.common.endings import folder_to_write
from hubkeras.common.errors import Error
from hubkeras.common.head_layers import SIGMOID, SOFTMAX
from hubkeras.common.metadata import LARGEST_IMAGE
from hubkeras.common.numbers import whole
from hubkeras.common.plain_settings import check_backend, own_random_state
from hubkeras.common.preprocessing import WHOLE
from hubkeras.common.progress import Progress, silent
from hubkeras.common.version import __version__
from hubkeras.converters import Report, read_network
from hubkeras.exporting import Export, export
from hubkeras.training.augmentation import AUGMENTATIONS
from hubkeras.training.budget import WRITING, Budget, estimated_seconds
from hubkeras.training.data import TEST, TRAINING, VALIDATION, Data, DataPlan, plan_data
from hubkeras.training.files import check_files, images_of, in_words_of, other_formats
from hubkeras.training.fine_tuning import features_of
from hubkeras.training.images import Examples, fitting_size
from hubkeras.training.run import AUTO, Options, Run, Stage
from hubkeras.training.stored import (
    Comparison,
    check_rows,
    evaluate_rows,
    images_are_there,
    preprocessing_of_rows,
    rows_in_words,
)
from hubkeras.training.wording import figures_of, rows_of
from hubkeras.training.working_folder import ENDING, check_stopped, known_files, was_writing, working_folder

EPOCHS = 20
FEWEST_MINUTES = 0.5
LARGEST_SEED = 2**32 - 1  # of NumPy's generators
REPORT_ENDING = ".report"
_MOST_NAMED = 4


@dataclasses.dataclass(frozen=True)
class Training:
    """The outcome of a run.

    Attributes:
        path: of the SavedModel.
        export: what was written, see `hubkeras.exporting.Export`.
        report: the folder of the report; `index.html` in it is for people.
        plan: of the data.
        stages: those that were measured, in order.
        chosen: the name of the one that was written.
        history: `{"loss": one an epoch}`.
        evaluation: of what was written, on the images of the test.
        files: of the other formats, `{path: Evaluation}`.
        facts: on data, options and stages, as `report.json` has them; `failed` has `{file: why it was not written}`.
        seconds: that it took, without those of earlier runs that it went on from.
        unreadable: paths of the images of all sets that could not be decoded, which count nowhere.
    """

    path: pathlib.Path
    export: Export
    report: pathlib.Path
    plan: DataPlan
    stages: Sequence[Stage]
    chosen: str
    history: Mapping[str, list[float]]
    evaluation: Evaluation
    files: Mapping[str, Evaluation]
    facts: Mapping[str, Any]
    seconds: float
    unreadable: Sequence[str]


@own_random_state()
def train(
    data: Data,
    directory: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    validation: Data | None = None,
    test: Data | None = None,
    only_head: bool = False,
    epochs: int | None = None,
    minutes: float | None = None,
    image_size: int | None = None,
    augment: str = "photo",
    balance: bool = False,
    seed: int = 0,
    features: str | os.PathLike[str] | None = None,
    also: Sequence[str | os.PathLike[str]] = (),
    weights: str | None = None,
    runtime: str = AUTO,
    finish: bool = False,
    overwrite: bool = False,
    callbacks: Sequence[Any] = (),
    progress: Progress | None = None,
    began: float | None = None,
) -> Training:
    """Trains a classifier on images, and writes it as a SavedModel.

    A head is fitted on the features of the base; then the whole network is fine-tuned, and what is best on the images
    for validation is written, compared and measured on the images of the test, which nothing else has seen. A report
    for people is written to `<directory>.report`. What a run keeps in `<directory>.train` lets the same call go on
    after it was stopped; it is removed at the end.

    Args:
        data: images with their classes: a folder with a folder for each class, or what else `hubkeras.evaluate` takes.
        directory: the folder of the SavedModel.
        source: of the base's weights, in any form that `hubkeras.export` takes; its own head is left out.
        validation, test: images of the same form; by default 15% of `data` each, by the hash of their content.
        only_head: whether to leave the base as it is, which takes seconds.
        epochs: of fine-tuning; 20 by default.
        minutes: that the run may take, that of earlier runs which it goes on from included; 0.5 or more.
        image_size: height and width in pixels; by default the base's, less where most images are much smaller.
        augment: `none`, `light` (mirrored, shifted, zoomed) or `photo`, which changes the light too.
        balance: whether each class counts alike, whatever the number of its images.
        seed: of all that is drawn: order, changes of images, dropout.
        features: the folder of rows that `hubkeras.embed` or Beam wrote with this base, found by the paths of the
            images, which need not be there: a head alone is fitted on them, and measured on those of the test.
        also: files of other formats to write, as `hubkeras.convert` does; each is measured too. One that is called
            `NAME.int8.tflite` or the like has 8 bits, whose ranges are found with images of training.
        runtime: what computes the features of the images that are read, as for `hubkeras.embed`.
        weights: of the source, `ema` or `raw`, see `hubkeras.export`.
        finish: whether to write the best so far of a run that was stopped, in place of going on.
        overwrite: whether to replace what hubkeras wrote.
        callbacks: of Keras; they are told of epochs and batches with their loss, and may stop the training
            (`model.stop_training`).
        progress: called with (done, total, what) as work goes on.
        began: when the time of `minutes` does, of `time.monotonic`; by default now.

    Returns:
        A `Training`.

    Raises:
        hubkeras.Error: the data have fewer than two classes or a class too few images, the source cannot be read, an
            argument is out of range, or something cannot be written.

    Examples:
        >>> trained = hubkeras.train("pets", "out", "mobilenet_v2_1.0_224.tgz", minutes=10)  # doctest: +SKIP
        >>> trained.chosen, trained.evaluation.top_1.share  # doctest: +SKIP
        ('fine-tuned', 0.953)
        >>> try:
        ...     hubkeras.train("photos", "out", "digits.tgz")
        ... except hubkeras.Error as error:
        ...     print(error)
        photos has fewer than 2 images of the classes 1, 2, 3, 4; add some, or leave the class out.
    """
    began, show = time.monotonic() if began is None else began, progress or silent
    overwrite = overwrite or was_writing([directory, *also])
    task = prepare(
        data, directory, source, validation=validation, test=test, only_head=only_head, epochs=epochs, minutes=minutes,
        image_size=image_size, augment=augment, balance=balance, seed=seed, features=features, also=also,
        weights=weights, runtime=runtime, overwrite=overwrite, progress=show,
    )  # fmt: skip
    if finish:
        check_stopped(task.path)
    with working_folder(task.path, task.fingerprint) as folder:
        folder.keep_files(task.plan.files)
        budget = task.budget(began, len(also))
        run = Run(task.plan, task.base, task.options, folder, show, budget, callbacks)
        stages, chosen, history = run.fit(finish)
        facts = task.facts(stages, chosen, run.unreadable)
        folder.begin_writing([task.path, *also])
        written = export(
            run.network,
            task.path,
            labels=list(task.plan.classes),
            image_size=task.options.image_size,
            provenance={**task.read.provenance, "training": facts},
            weights=task.read.weights,
            preprocessing=preprocessing_of_rows(task.plan.stored) if task.plan.stored else WHOLE,
            overwrite=overwrite,
            progress=show,
        )
        held_out = _held_out(task.plan, test)
        if task.plan.stored:
            evaluation = evaluate_rows(task.path, task.plan, held_out)
        else:
            evaluation = evaluate(task.path, held_out, progress=lambda done, total: show(done, total, "testing"))
        measured = not task.plan.stored or images_are_there(task.plan)
        calibrating = functools.cache(lambda: images_of(task.plan, task.options.image_size))  # once for all files
        files, failed = other_formats(task.path, also, held_out if measured else None, calibrating, overwrite, show)
        facts = {**facts, "failed": failed}
        if run.choice:  # not in the model, whose bytes would then depend on the machine
            facts["runtime"] = dataclasses.asdict(run.choice)
        if run.precision:
            facts["precision"] = run.precision
        unreadable = [*run.unreadable[TRAINING], *run.unreadable[VALIDATION], *evaluation.unreadable]
        _write_report(task, held_out, evaluation, files, history["loss"], facts, unreadable, overwrite)
    paths, seconds = (task.path, written, task.report, task.plan), time.monotonic() - began
    return Training(*paths, stages, chosen, history, evaluation, files, facts, seconds, unreadable)


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A run before it begins.

    Attributes:
        path, report: the folders to write.
        files: of other formats, in words.
        plan: of the data.
        base: the network, with a new head.
        read: what became of the tensors of its source.
        options: of the run.
        compared: rows beside the images that are there; None where no rows were given.
    """

    path: pathlib.Path
    report: pathlib.Path
    files: Sequence[str]
    plan: DataPlan
    base: SlimNetwork
    read: Report
    options: Options
    compared: Comparison | None = None

    @property
    def fingerprint(self) -> dict[str, Any]:
        """All that the result depends on, as JSON, but for the time that is left for it."""
        options = dataclasses.asdict(self.options)
        options.pop("minutes")
        source = {"source": self.read.provenance["sha256"], "weights": str(self.read.weights)}
        if self.plan.stored:
            source["features"] = self.plan.stored.fingerprint["model"]
        else:  # what is kept of images lies in their order
            source["order of the images"] = self.plan.order
        return {"data": self.plan.digest, **source, "hubkeras": __version__, **options}

    def facts(
        self, stages: Sequence[Stage], chosen: str, unreadable: Mapping[str, Sequence[str]] | None = None
    ) -> dict[str, Any]:
        """Where a trained model comes from, for its report.

        Args:
            stages, chosen: see `Training`.
            unreadable: `{set: paths of its images that could not be decoded}`.
        """
        lost = {name: len(paths) for name, paths in (unreadable or {}).items()}
        sets = {name: len(examples) - lost.get(name, 0) for name, examples in self.plan.sets.items()}
        damaged = {UNREADABLE: sum(lost.values())} if any(lost.values()) else {}
        data = {
            "sha256": self.plan.digest,
            "images": sets,
            "chosen": dict(self.plan.how),
            "left_out": added([self.plan.left_out, damaged]),
        }
        if self.plan.stored and self.compared:
            data["features"] = rows_in_words(self.plan.stored, self.compared)
        return {
            "data": data,
            "options": dataclasses.asdict(self.options),
            "stages": [dataclasses.asdict(stage) for stage in stages],
            "written_stage": chosen,
        }

    def budget(self, began: float, files: int) -> Budget:
        """The time of the run that began then, of `time.monotonic`, and writes files of other formats."""
        counts, options = self._counts(), self.options
        batches = (2 * counts[TRAINING] + counts[VALIDATION]) / options.recipe.batch_size
        return Budget(options.minutes, began, batches, counts[TEST], files)

    def estimated_seconds(self) -> float:
        """About how long the run will take on this machine, by a trial of a few seconds."""
        counts, options = self._counts(), self.options
        if options.minutes is not None:
            return options.minutes * 60
        if self.plan.stored:
            return WRITING
        epochs, others = options.epochs or 0, counts[VALIDATION] + counts[TEST]
        run = features_of(self.base, options.image_size)
        return estimated_seconds(run, options.image_size, counts[TRAINING], others, epochs)

    def _counts(self) -> dict[str, int]:
        return {name: len(examples) for name, examples in self.plan.sets.items()}


def prepare(
    data: Data,
    directory: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    validation: Data | None,
    test: Data | None,
    only_head: bool,
    epochs: int | None,
    minutes: float | None,
    image_size: int | None,
    augment: str,
    balance: bool,
    seed: int,
    features: str | os.PathLike[str] | None,
    also: Sequence[str | os.PathLike[str]],
    weights: str | None,
    runtime: str,
    overwrite: bool,
    progress: Progress,
) -> Prepared:
    """Looks at all that a run needs, and writes nothing; arguments as for `train`.

    Raises:
        hubkeras.Error: see `train`.
    """
    check_backend()
    _check(epochs, minutes, augment, seed, only_head)
    if features is not None and (epochs or minutes):
        raise Error("features (--features) give a head alone; leave epochs and minutes out, or features, to fine-tune.")
    inputs = [data, validation, test, source, features]
    path = pathlib.Path(os.path.abspath(folder_to_write(directory, overwrite, inputs)))
    report = path.with_name(f"{path.name}{REPORT_ENDING}")
    reports.check(report, overwrite)
    check_files(also, overwrite, inputs, [path, report, path.with_name(f"{path.name}{ENDING}")])
    progress(0, 1, "looking at the images")
    stored = None if features is None else open_features(features)
    plan = plan_data(data, validation, test, known_files(path), stored)
    if not any(example.labels for example in plan.sets[TEST]):
        raise Error("There are no images for the test; add some to the classes, or give test (--test).")
    head = {"num_classes": len(plan.classes), "classifier_activation": SOFTMAX if plan.exclusive else SIGMOID}
    base, match, read = read_network(source, num_classes=None, weights=weights, progress=progress, new_head=head)
    size = stored.preparation.size[0] if stored else fitting_size(plan, match.image_size, base.minimum_image_size)
    size = size if image_size is None else whole(image_size, "image_size")
    if stored and size != stored.preparation.size[0]:
        raise Error(f"{features} holds features of {stored.preparation.size[0]} pixels; got image_size {size}.")
    if not base.minimum_image_size <= size <= LARGEST_IMAGE:
        bounds = f"at least {base.minimum_image_size} and at most {LARGEST_IMAGE}"
        raise Error(f"image_size must be {bounds} for {base.title}; got {size}.")
    asked = 0 if only_head or stored else None if minutes is not None else EPOCHS if epochs is None else epochs
    options = Options(size, asked, minutes, augment, balance, seed, runtime=runtime)
    compared = check_rows(stored, base, read) if stored else None
    files = in_words_of(also, len(plan.sets[TRAINING]))
    return Prepared(path, report, files, plan, base, read, options, compared)


def _check(epochs: int | None, minutes: float | None, augment: str, seed: int, only_head: bool) -> None:
    given = [name for name, value in (("epochs", epochs), ("minutes", minutes), ("only_head", only_head)) if value]
    if len(given) > 1:
        raise Error(f"{' and '.join(given)} tell how long to train in different ways; give one of them.")
    if epochs is not None and whole(epochs, "epochs") < 1:
        raise Error(f"epochs must be at least 1; got {epochs}; only_head (--only-head) leaves fine-tuning out.")
    if minutes is not None and not float(minutes) >= FEWEST_MINUTES:
        raise Error(f"minutes must be at least {FEWEST_MINUTES}; got {minutes}.")
    if augment not in AUGMENTATIONS:
        raise Error(f"augment must be one of {', '.join(AUGMENTATIONS)}; got {augment!r}.")
    if not 0 <= whole(seed, "seed") <= LARGEST_SEED:
        raise Error(f"seed must be from 0 to {LARGEST_SEED}; got {seed}.")


def _held_out(plan: DataPlan, test: Data | None) -> LabelSets:
    """The images of the test, as `evaluate` takes them."""
    if test is not None and not plan.stored:
        return dataclasses.replace(plan.sources[-1], without_images=plan.classes)
    examples = plan.sets[TEST]
    labels = [plan.names(example) for example in examples]
    return LabelSets(Examples(plan, examples), labels, plan.how[TEST], without_images=plan.classes)


def _write_report(
    task: Prepared,
    held_out: LabelSets,
    evaluation: Evaluation,
    files: Mapping[str, Evaluation],
    losses: Sequence[float],
    facts: Mapping[str, Any],
    unreadable: Sequence[str],
    overwrite: bool,
) -> None:
    others = {name: figures_of(each) for name, each in files.items()}
    classes = task.plan.classes
    test = [  # a line for each label, whatever characters names have
        (_from_anywhere(held_out.images.path(number)), label)
        for number, labels in enumerate(held_out.labels)
        for label in labels or ("",)
    ]
    reports.write(
        evaluation,
        task.report,
        overwrite,
        title=f"{task.path.name}: {', '.join(classes[:_MOST_NAMED])}{', ...' * (len(classes) > _MOST_NAMED)}",
        rows=rows_of(task.read.source, facts, evaluation, files, unreadable),
        losses=losses,
        facts={"base": task.read.provenance, **facts, "files": others},
        test=test,
    )


def _from_anywhere(path: str) -> str:
    """A path that a table in another folder may have: relative names of a table begin at its own folder."""
    return os.path.abspath(path) if os.path.isfile(path) else path
