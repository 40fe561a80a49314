"""`hub.KerasLayer` for Keras 3: a Reusable SavedModel as a layer."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import warnings
from collections.abc import Collection
from typing import Any

import keras
import tensorflow as tf

from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.numbers import plain
from hubkeras.common.ranges import warn_of_range
from hubkeras.consuming import keras_internals
from hubkeras.consuming.calls import checked_inputs, finished_outputs, shapes_of, without_empty_batch
from hubkeras.consuming.handles import absolute, is_local, resolve
from hubkeras.consuming.loading import LoadedSavedModel, load_saved_model
from hubkeras.consuming.saved_function import SavedFunction, SavedRegularization, standing_for

_ARCHIVED = "saved_model"  # folder of the SavedModel below the layer's own in a `.keras` file

_SCALES_LOSSES = (3, 8)  # the Keras version from which `fit` divides losses by the number of replicas


@dataclasses.dataclass(frozen=True)
class _Arguments:
    """The constructor's arguments that belong to the layer's config."""

    handle: Any
    arguments: dict[str, Any]
    tags: str | Collection[str] | None
    signature: str | None
    signature_outputs_as_dict: bool | None
    output_key: str | None
    output_shape: Any
    content_hash: str | None

    def check(self) -> None:
        """Raises hubkeras.Error where arguments exclude each other, or the handle is of no SavedModel."""
        if isinstance(self.handle, keras.layers.Layer):
            name = self.handle.name
            raise Error(f"KerasLayer takes a SavedModel; {name} is a layer of Keras 3 already, which is used as it is.")
        if self.signature and (self.output_key is not None) == bool(self.signature_outputs_as_dict):
            raise Error("With a signature, give either output_key or signature_outputs_as_dict=True.")
        if self.signature_outputs_as_dict and not self.signature:
            raise Error("signature_outputs_as_dict is for a signature; name the signature, or leave it out.")

    def config(self) -> dict[str, Any]:
        """Those that were given, JSON-ready.

        Raises:
            hubkeras.Error: the layer was made from an object, or `arguments` or `output_shape` are not JSON-ready.
        """
        if callable(self.handle):
            raise Error("Only a KerasLayer with a handle of type str has a config; this one was made from an object.")
        for name in ("arguments", "output_shape"):
            try:
                json.dumps(getattr(self, name))
            except TypeError as error:
                raise Error(f"{name} of KerasLayer must be JSON-ready to be saved: {error}.") from error
        return {name: value for name, value in vars(self).items() if value is not None and value != {}}


@keras.saving.register_keras_serializable("hubkeras")
class KerasLayer(keras.layers.Layer):
    """A Reusable SavedModel as a Keras 3 layer, with the arguments of `tensorflow_hub.KerasLayer`.

    The layer works in Sequential and functional models and in loops of one's own. `trainable` may change at any time
    (compile again); the SavedModel is called with `training=True` where the layer is trainable and called for
    training, and its regularization losses are in `losses` while the layer is trainable. A `.keras` file carries the
    SavedModel, so that it opens where the handle does not exist.

    Under `MirroredStrategy` make the layer within the strategy's scope; Keras must be 3.8 or newer. Keras 3 has no
    `fit` under `MultiWorkerMirroredStrategy`, only loops of one's own with `strategy.run`.

    A SavedModel is a program. In `safe_mode` its files are read before anything is loaded, and all but harmless
    operations are refused: no files, no Python, no network, no custom operations. `keras.models.load_model` has the
    same argument for the SavedModel in a `.keras` file; a config does not carry it.

    Two layers made from one loaded object share its variables, also in training. `stateless_call` is refused: the
    functions of a SavedModel read their own variables.

    Args:
        handle: a folder, a `.tar.gz`, an http(s) URL or a tfhub.dev or Kaggle handle of a SavedModel; or a callable
            object with the attributes of one, with which the layer cannot be saved.
        trainable: whether the variables in `trainable_variables` of the SavedModel are trained. Only without
            `signature`.
        arguments: more keyword arguments for the SavedModel, `{"batch_norm_momentum": 0.997}`; JSON-ready values.
        tags: of the graph in the SavedModel to load; needed only where it has more than one.
        signature: name of a signature to call in place of `__call__`.
        signature_outputs_as_dict: with a signature, whether to return all of its outputs.
        output_key: name of the one output to return, where the SavedModel returns a dict.
        output_shape: shape of the output without the batch, or a nest of them, where the SavedModel does not tell.
        load_options: `tf.saved_model.LoadOptions`; not part of the layer's config.
        safe_mode: whether to refuse SavedModels that could do more than compute. Not for a `handle` that is an object.
        public_key: PEM file of a key whose owner must have signed the SavedModel (`hubkeras sign`); not part of the
            layer's config.
        content_hash: that the SavedModel must have, see `hubkeras inspect`. The layer's config has that of what was
            loaded, so that a copy of the layer is of the same SavedModel.
        **kwargs: of every Keras layer: `name`, `dtype`. Under a half-precision policy inputs are cast
            to what the SavedModel takes and outputs to the compute dtype; the SavedModel computes as it was saved.

    Attributes:
        resolved_object: what was loaded.

    Raises:
        hubkeras.Error: there is no SavedModel behind `handle`, or a damaged one, or none that these arguments fit.

    Examples:
        >>> base = hubkeras.KerasLayer("build/digits", trainable=True)
        >>> model = keras.Sequential([keras.Input((96, 96, 3)), base, keras.layers.Dense(5)])
        >>> model.output_shape
        (None, 5)
    """

    def __init__(
        self,
        handle: Any,
        trainable: bool = False,
        arguments: dict[str, Any] | None = None,
        _sentinel: None = None,
        tags: str | Collection[str] | None = None,
        signature: str | None = None,
        signature_outputs_as_dict: bool | None = None,
        output_key: str | None = None,
        output_shape: Any = None,
        load_options: Any = None,
        safe_mode: bool = True,
        public_key: str | os.PathLike[str] | None = None,
        content_hash: str | None = None,
        *,
        _deferred: bool = False,
        **kwargs: Any,
    ):
        if keras.backend.backend() != "tensorflow":
            raise Error(
                f"KerasLayer runs SavedModels, which needs Keras on TensorFlow, not on {keras.backend.backend()}; "
                "set KERAS_BACKEND=tensorflow before keras is imported."
            )
        if _sentinel is not None:
            raise Error("KerasLayer takes handle, trainable and arguments by position; name the others.")
        _check_strategy()
        # inputs are cast to what the SavedModel takes, not to what Keras computes with
        super().__init__(trainable=trainable, **{"autocast": False, **kwargs})
        self._given = _Arguments(
            handle if callable(handle) else absolute(handle),
            plain(dict(arguments or {})),
            sorted(tags) if isinstance(tags, set | frozenset) else tags,
            signature or None,
            signature_outputs_as_dict,
            output_key,
            plain(output_shape),
            content_hash,
        )
        self._given.check()
        self._load_options, self._safe_mode, self._public_key = load_options, safe_mode, public_key
        self._function: SavedFunction | None = None  # None until it is loaded
        self._source: LoadedSavedModel | None = None  # the SavedModel that it comes from; of an object there is none
        self._variable_specs: list[dict[str, Any]] = []
        self._output_specs: Any = None
        self._values_given = False  # whether variables hold values that loading the SavedModel must not replace
        self._range_unseen = True
        if not _deferred:
            self._load()

    @property
    def resolved_object(self) -> Any:
        return self._load().module

    # Loading: at construction; for a layer from a config at the latest when it is called, see `from_config`.

    def _load(self) -> SavedFunction:
        """The function that the layer calls, loaded where it is not yet."""
        if self._function is None:
            handle = self._given.handle
            with tf.init_scope():  # the first call may be the trace of a tf.function
                self._bind(handle if callable(handle) else self._load_folder(resolve(handle)))
        assert self._function is not None
        return self._function

    def _load_folder(self, folder: str) -> Any:
        """Loads the SavedModel in a folder, which must be the one that the layer was made from."""
        source = load_saved_model(
            folder,
            safe_mode=self._safe_mode,
            tags=self._given.tags,
            options=self._load_options,
            public_key=self._public_key,
        )
        if self._given.content_hash not in (None, source.content_hash):
            raise Error(
                f"The SavedModel at {folder} is another than {self.name} was made from (its content hash is "
                f"{source.content_hash}, expected {self._given.content_hash}); give the one that it was made from."
            )
        self._source = source
        self._given = dataclasses.replace(self._given, content_hash=source.content_hash)
        return source.module

    def _bind(self, module: Any) -> None:
        """Takes over the function and variables of a module, in place of those that the layer may have."""
        is_object = callable(self._given.handle)
        name = "The given object" if is_object else self._given.handle
        function = SavedFunction.of(module, self._given.signature, name, is_loaded=not is_object)
        specs = function.variable_specs()
        if not self._variable_specs:
            self._track(function.variables, specs)
        elif list(self._variable_specs) != specs:
            raise Error(
                f"The SavedModel of {self.name} has other variables than the layer was saved with; "
                "give the one that it was made from."
            )
        own = keras_internals.own_variables(self)
        for saved, variable in zip(own, function.variables, strict=True):
            if self._values_given:
                variable.assign(saved.value)
            saved.bind(variable)
        if function.losses and function.trainable:
            own[0].regularizer = SavedRegularization(function.losses)
        self._module = module  # an attribute of the layer is saved with a model around it, tables and all
        self._function, self.supports_jit = function, function.compiles()
        if self.trainable and not function.trainable and not self._given.signature:
            warnings.warn(
                f"{self.name} has trainable=True, but its SavedModel has no trainable variables: nothing of it will be "
                "trained.",
                stacklevel=4,
            )

    def _track(self, variables: list[tf.Variable], specs: list[dict[str, Any]]) -> None:
        """Makes the layer's Keras variables, which stand for `variables`; their order is that of `specs`."""
        for variable, spec in zip(variables, specs, strict=True):
            saved, trained_elsewhere = standing_for(variable, spec, self.name)
            saved.trainable = spec["trainable"]  # which tells Keras where to keep it
            keras_internals.track(self, saved)
            saved.trainable = saved.trainable or trained_elsewhere
        self._variable_specs = specs
        self.built = True

    # Calling.

    def build(self, input_shape: Any = None) -> None:
        self._load()
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        function = self._load()
        self._check_call()
        if self._range_unseen and len(getattr(inputs, "shape", ())) == 4 and hasattr(function.module, "metadata"):
            self._range_unseen = not warn_of_range(inputs)  # only eager images tell
        inputs = checked_inputs(inputs, function.input_specs, self.name)
        inputs, count = without_empty_batch(inputs)
        training = bool(training) and self.trainable and function.takes_training and not isinstance(count, int)
        statistics = self._statistics() if training and count is not None else []
        arguments = dict(self._given.arguments)
        outputs = function(inputs, {**arguments, "training": training} if function.takes_training else arguments)
        for variable, value in statistics:  # an empty batch has none
            variable.assign(tf.where(tf.equal(count, 0), value, variable))
        outputs = self._select(outputs)
        if count is not None:
            outputs = tf.nest.map_structure(lambda output: output[:count], outputs)
        return finished_outputs(outputs, inputs, self.compute_dtype, self._given.output_shape)

    def _statistics(self) -> list[tuple[tf.Variable, tf.Tensor]]:
        """The variables that training changes without a gradient, with their values."""
        own = zip(keras_internals.own_variables(self), self._variable_specs, strict=True)
        return [(saved.storage, tf.identity(saved.storage)) for saved, spec in own if not spec["trainable"]]

    def _check_call(self) -> None:
        if self.trainable and self._given.signature:
            raise Error("A signature cannot be trained; set trainable=False, or leave the signature out.")
        if any(map(keras_internals.is_given_another_value, keras_internals.own_variables(self))):
            raise Error(
                f"{self.name} cannot be called with other values of its variables (stateless_call): the functions of a "
                "SavedModel read their own; assign the values to layer.variables and call it."
            )

    def _select(self, outputs: Any) -> Any:
        key = self._given.output_key
        if key is None:
            return outputs
        if not isinstance(outputs, dict):
            raise Error(
                f"output_key={key!r} needs a SavedModel that returns a dict; it returns a {type(outputs).__name__}."
            )
        if key not in outputs:
            raise Error(f"The SavedModel has no output {key!r}; its outputs: {', '.join(sorted(outputs))}.")
        return outputs[key]

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        if self._function is None and self._output_specs is not None:
            return keras.saving.deserialize_keras_object(self._output_specs)
        self._load()
        # not Layer's, which asks compute_output_shape
        outputs = keras.Operation.compute_output_spec(self, inputs, training=training)
        self._output_specs = keras.saving.serialize_keras_object(outputs)
        return outputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        if self._given.output_shape is not None:
            batch = tf.TensorShape(input_shape)[:1]
            shapes = shapes_of(self._given.output_shape)
            return tf.nest.map_structure(lambda shape: tuple(batch.concatenate(shape)), shapes)
        input_specs = self._load().input_specs
        inputs = keras.KerasTensor(input_shape, input_specs[0][0].dtype.name if input_specs else self.compute_dtype)
        return keras.tree.map_structure(lambda output: output.shape, self.compute_output_spec(inputs))

    # Saving.

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor.

        Raises:
            hubkeras.Error: the layer was made from an object, or `arguments` or `output_shape` are not JSON-ready.
        """
        given = self._given.config()
        return {**super().get_config(), **given}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> KerasLayer:
        """The layer of a config; it loads its SavedModel when it is built, since a `.keras` file brings its own.

        In safe mode unless Keras' own is off, by `load_model(..., safe_mode=False)` or
        `keras.config.enable_unsafe_deserialization()`.
        """
        return cls(**{**config, "safe_mode": keras_internals.in_safe_mode()}, _deferred=True)

    def get_build_config(self) -> dict[str, Any] | None:
        if self._function is None:
            return None
        return {"variables": list(self._variable_specs), "outputs": self._output_specs}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Makes the variables that the layer was saved with.

        They take their values from the SavedModel where it is on this machine, else when a file of weights or the
        first call brings them.
        """
        self._output_specs, specs = config["outputs"], config["variables"]
        zeros = [tf.Variable(tf.zeros(spec["shape"], spec["dtype"]), spec["trainable"]) for spec in specs]
        self._track(zeros, specs)
        if is_local(self._given.handle):
            with contextlib.suppress(Error):  # another SavedModel has taken its place
                self._load()

    def save_assets(self, inner_path: str) -> None:
        self._load()
        if self._source is None:
            raise Error(f"{self.name} was made from an object, which cannot be saved.")
        self._source.copy_to(os.path.join(inner_path, _ARCHIVED), self.name)

    def load_assets(self, inner_path: str) -> None:
        # Keras removes its folder after loading; this one lasts as long as the layer
        self._archived = TemporaryFolder()
        folder = pathlib.Path(self._archived.name) / _ARCHIVED
        try:
            shutil.copytree(os.path.join(inner_path, _ARCHIVED), folder)
        except (OSError, shutil.Error) as error:
            raise Error(
                f"The file holds no SavedModel for {self.name}: it is damaged or was not saved whole."
            ) from error
        self._bind(self._load_folder(str(folder)))

    def load_own_variables(self, store: Any) -> None:
        if not self._variable_specs:
            self._load()
        try:
            super().load_own_variables(store)
        except (ValueError, KeyError) as error:
            raise Error(
                f"The weights in the file do not fit {self.name}, which has {len(self._variable_specs)} variables; "
                "the file is damaged or of another model."
            ) from error
        self._values_given = True


def _check_strategy() -> None:
    """Refuses or warns of what this Keras does wrong under a `tf.distribute` strategy."""
    strategy = tf.distribute.get_strategy()
    version = tuple(map(int, keras.__version__.split(".")[:2]))
    if strategy.num_replicas_in_sync > 1 and version < _SCALES_LOSSES:
        raise Error(
            f"Keras {keras.__version__} adds the gradients of {strategy.num_replicas_in_sync} replicas where it should "
            "average them, so that training under this strategy goes wrong; upgrade to Keras 3.8 or newer."
        )
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        warnings.warn(
            "Keras 3 cannot fit, evaluate or predict under MultiWorkerMirroredStrategy (it fails with an error about "
            "PerReplica); write the loop with strategy.run, or use tensorflow_hub.KerasLayer with tf_keras.",
            stacklevel=3,
        )
