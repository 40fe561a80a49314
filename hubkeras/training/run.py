"""The fitting of one run: a head on features, fine-tuning, and the best of both."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from hubkeras.architectures.network import SlimNetwork
from hubkeras.bulk.pipeline import Preparation
from hubkeras.bulk.running import AUTO, check_run
from hubkeras.common.choices import Runtime
from hubkeras.common.errors import Error
from hubkeras.common.preprocessing import WHOLE
from hubkeras.common.progress import Progress
from hubkeras.training import devices, logistic
from hubkeras.training.augmentation import AUGMENTATIONS
from hubkeras.training.budget import Budget, Part
from hubkeras.training.data import TRAINING, VALIDATION, DataPlan
from hubkeras.training.fine_tuning import Recipe, Tuner, average_batches, batches_of, features_of
from hubkeras.training.images import read_images
from hubkeras.training.objective import Objective, mean_average_precision, right_images
from hubkeras.training.stored import rows_as_read
from hubkeras.training.working_folder import WorkingFolder

HEAD, TUNED, REFITTED = "head", "fine-tuned", "fine-tuned, head fitted again"
_CHUNK = 64  # images at once, without gradients
_PARTS = 1000  # in which the share of fine-tuning is counted, where minutes tell it


@dataclasses.dataclass(frozen=True)
class Options:
    """What a run depends on beside its data and its base.

    Attributes:
        image_size: height and width in pixels.
        epochs: of fine-tuning; 0 fits a head alone, None is as many as `minutes` allow.
        minutes: that the whole run may take, or None.
        augment: a key of `AUGMENTATIONS`.
        balance: whether each class counts alike, whatever the number of its images.
        seed: of everything that is drawn.
        recipe: of fine-tuning.
        runtime: what computes features of images that are read, see `train`.
    """

    image_size: int
    epochs: int | None
    minutes: float | None
    augment: str
    balance: bool
    seed: int
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    runtime: str = AUTO

    def __post_init__(self) -> None:
        check_run(None, None, None, self.runtime)


@dataclasses.dataclass(frozen=True)
class Stage:
    """A state of the network that was measured on the images for validation.

    Attributes:
        name: `head`, `fine-tuned` or `fine-tuned, head fitted again`.
        right, count: images of validation that are right, and all that show a class.
        loss: mean cross entropy.
        average_precision: the mean over the classes, where each is for itself.
    """

    name: str
    right: int
    count: int
    loss: float
    average_precision: float | None = None

    @property
    def score(self) -> tuple[float, float]:
        """What the best of the stages has most of."""
        return (self.right if self.average_precision is None else self.average_precision, -self.loss)


class Run:
    """The fitting of one run.

    Args:
        plan: of the data.
        network: the base with a new head of the plan's classes; it is changed.
        options: of the run.
        folder: that keeps what was done.
        progress: see `train`.
        budget: of its time.
        callbacks: of Keras, see `train`.
    """

    def __init__(
        self,
        plan: DataPlan,
        network: SlimNetwork,
        options: Options,
        folder: WorkingFolder,
        progress: Progress,
        budget: Budget,
        callbacks: Sequence[Any] = (),
    ) -> None:
        self.options, self.folder, self.progress, self.budget = options, folder, progress, budget
        examples = (*plan.sets[TRAINING], *plan.sets[VALIDATION])
        preparation = Preparation((options.image_size,) * 2, WHOLE.resize, WHOLE.central_fraction)
        self.network = network
        self.precision: str | None = None  # of fine-tuning
        self._run = features_of(self.network, options.image_size)
        if plan.stored:
            read = rows_as_read(plan, examples)
        else:
            with budget.measuring(Part.FEATURES):
                self._run(np.zeros([1, *preparation.size, 3], np.float32))
            with budget.measuring(Part.IMAGES):
                read = read_images(
                    plan,
                    examples,
                    preparation,
                    self._run,
                    self.network.num_features,
                    keep_pixels=options.epochs != 0,
                    folder=folder,
                    progress=budget.watched(progress),
                    network=self.network,
                    runtime=None if options.runtime == AUTO else Runtime(options.runtime),
                )
        self.features, self.pixels, readable = read.features, read.pixels, read.readable
        self.choice = read.choice
        targets = np.zeros([len(examples), len(plan.classes)], np.float32)
        for row, example in zip(targets, examples, strict=True):
            row[list(example.labels)] = 1
        border = len(plan.sets[TRAINING])
        self.training, self.validation = readable[readable < border], readable[readable >= border]
        lost = np.setdiff1d(np.arange(len(examples)), readable)
        self.unreadable = {
            TRAINING: [examples[number].path for number in lost[lost < border]],
            VALIDATION: [examples[number].path for number in lost[lost >= border]],
        }
        for name, numbers in ((TRAINING, self.training), (VALIDATION, self.validation)):
            if not (shown := targets[numbers].any(0)).all():
                raise Error(f"None of the images for {name} of the class {plan.classes[shown.argmin()]} can be read.")
        self.targets = targets
        self.objective = Objective.of(targets[self.training], plan.exclusive, options.balance)
        self.callbacks = keras.callbacks.CallbackList(list(callbacks), model=self.network)

    def fit(self, finish: bool = False) -> tuple[list[Stage], str, dict[str, list[float]]]:
        """Fits the network.

        Args:
            finish: whether to take the epochs that an earlier run kept, and no more.

        Returns:
            The stages, the name of the one that the network is left in, and the history.
        """
        with self.budget.measuring(Part.HEAD):
            strength = self._fit_head(self.features)
        fitted = {HEAD: (self.features, strength)}
        stages, states = [self._measured(HEAD, self.features)], [self._state()]
        history: dict[str, list[float]] = {"loss": []}
        if self._tune(history, finish):
            self.progress(0, 1, "averaging")
            average_batches(self.network, self._chunks(self.training))
            features = self._features()
            stages.append(self._measured(TUNED, features))
            states.append(self._state())
            fitted[REFITTED] = (features, self._fit_head(features))
            stages.append(self._measured(REFITTED, features))
            states.append(self._state())
        best = max(range(len(stages)), key=lambda number: stages[number].score)
        for variable, value in zip(self.network.variables, states[best], strict=True):
            variable.assign(value)
        if stages[best].name in fitted:
            self._fit_whole_head(*fitted[stages[best].name])
        return stages, stages[best].name, history

    def _state(self) -> list[np.ndarray]:
        return [np.array(variable) for variable in self.network.variables]

    def _chunks(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """Images by their numbers, in pieces."""
        for start in range(0, len(numbers), _CHUNK):
            yield np.asarray(self.pixels[numbers[start : start + _CHUNK]])

    def _tuner(self) -> Tuner:
        options = self.options
        self.precision = devices.precision(self.network)
        given = (options.recipe, AUGMENTATIONS[options.augment], self.objective, options.seed)
        return Tuner(self.network, *given, devices.gpus(), self.precision)

    def _tune(self, history: dict[str, list[float]], finish: bool) -> bool:
        """Trains the whole network, from the epoch that was kept last; returns whether there was time for it."""
        options, kept = self.options, self.folder.last_epoch()
        if not kept and (finish or options.epochs == 0 or self._share(0) >= 1):
            return False
        tuner = self._tuner()
        if kept:
            facts, state = kept
            tuner.restore(state)
            history["loss"] = facts["loss"]
            self.budget.go_on(facts["share"], facts["spent"])
        self.network.stop_training = finish
        self.callbacks.on_train_begin()
        for epoch in itertools.count(len(history["loss"])):
            if self.network.stop_training or self._share(epoch) >= 1:
                break
            self.callbacks.on_epoch_begin(epoch)
            losses = self._train_epoch(tuner, epoch)
            history["loss"].append(float(np.mean(losses)))
            self.callbacks.on_epoch_end(epoch, {"loss": history["loss"][-1]})
            facts = {"loss": history["loss"], "share": self._share(epoch + 1), "spent": self.budget.spent()}
            self.folder.save_epoch(facts, tuner.state())
        self.callbacks.on_train_end()
        return bool(options.epochs) or int(tuner.optimizer.iterations) > 1  # the first step shows whether there is time

    def _train_epoch(self, tuner: Tuner, epoch: int) -> list[float]:
        """The losses of the steps of an epoch, which a budget may cut short after the first."""
        size = self.options.recipe.batch_size
        random = np.random.default_rng([self.options.seed, epoch])
        losses: list[float] = []
        for step, numbers in enumerate(batches_of(len(self.training), size, random)):
            done, total = self._place(epoch, step)
            if losses and done >= total:
                break
            self.callbacks.on_train_batch_begin(step)
            chosen, began = np.sort(self.training[numbers]), time.monotonic()
            rate = self.options.recipe.rate(done, total)
            losses.append(tuner.train(np.asarray(self.pixels[chosen]), self.targets[chosen], random, rate))
            self.budget.step_done(time.monotonic() - began)
            self.callbacks.on_train_batch_end(step, {"loss": losses[-1]})
            done, total = self._place(epoch, step + 1)
            self.progress(round(done), total, "fine-tuning")
        return losses

    def _place(self, epoch: int, step: int) -> tuple[float, int]:
        """How much of fine-tuning is done before a step, and of how much: of all steps, or of the time that is left."""
        if self.options.epochs is None:
            return _PARTS * self.budget.share(), _PARTS
        steps = max(1, len(self.training) // self.options.recipe.batch_size)
        return epoch * steps + step, self.options.epochs * steps

    def _share(self, epoch: int) -> float:
        """The share of fine-tuning that is done before an epoch."""
        done, total = self._place(epoch, 0)
        return done / total

    def _features(self) -> np.ndarray:
        """Pooled features of all images that could be decoded, by their numbers, of the network as it is now."""
        features = np.zeros([len(self.pixels), self.network.num_features], np.float32)
        for name, numbers in ((TRAINING, self.training), (VALIDATION, self.validation)):
            for start in range(0, len(numbers), _CHUNK):
                chosen = numbers[start : start + _CHUNK]
                features[chosen] = self._run(self.pixels[chosen] / np.float32(255))
                self.progress(start, len(numbers), f"reading features again for {name}")
        return features

    def _fit_head(self, features: np.ndarray) -> float:
        """Fits the head on features, with the penalty that is best for validation, which it returns."""
        self.progress(0, 1, "fitting the head")
        heads = self._heads(features, self.training, logistic.STRENGTHS)
        validation, truth = features[self.validation], self.targets[self.validation]
        exclusive = self.objective.exclusive
        head = min(heads, key=lambda head: logistic.cross_entropy(head.logits(validation), truth, exclusive))
        self._set_head(head)
        return head.strength

    def _fit_whole_head(self, features: np.ndarray, strength: float) -> None:
        """Fits the head once more, on the images for validation too: all has been chosen by them."""
        (head,) = self._heads(features, np.concatenate([self.training, self.validation]), [strength])
        self._set_head(head)

    def _heads(self, features: np.ndarray, numbers: np.ndarray, strengths: Sequence[float]) -> list[logistic.Linear]:
        targets, objective = self.targets[numbers], self.objective
        weights = objective.weights(targets)
        return logistic.fit(features[numbers], targets, strengths, objective.exclusive, weights)

    def _set_head(self, head: logistic.Linear) -> None:
        for name, variable in self.network.slim_variables().items():
            if "/Logits/" in name:
                value = head.weights if name.endswith("/weights") else head.biases
                variable.assign(value.reshape(variable.shape))

    def _measured(self, name: str, features: np.ndarray) -> Stage:
        """The network on the images for validation, from their features."""
        head: Any = self.network.head
        logits = np.asarray(head(features[self.validation, np.newaxis, np.newaxis])["Logits"])
        truth, exclusive = self.targets[self.validation], self.objective.exclusive
        right = right_images(logits, truth)
        precision = None if exclusive else mean_average_precision(logits, truth)
        loss = logistic.cross_entropy(logits, truth, exclusive)
        return Stage(name, int(right.sum()), len(right), loss, precision)
