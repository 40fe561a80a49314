"""`hub.KerasLayer` for Keras 3: a Reusable SavedModel as a layer."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
import warnings

import keras
import tensorflow as tf

from hubkeras.common import integrity
from hubkeras.common.errors import Error
from hubkeras.common.files import reading
from hubkeras.consuming.handles import is_local, resolve
from hubkeras.consuming.images import warn_of_range
from hubkeras.consuming.loaded import SavedRegularization, SavedVariable, for_any_shape, inputs_of, variable_specs

_ARCHIVED = "saved_model"  # folder of the SavedModel below the layer's own in a `.keras` file

_SCALES_LOSSES = (3, 8)  # the Keras version from which `fit` divides losses by the number of replicas


@keras.saving.register_keras_serializable("hubkeras")
class KerasLayer(keras.layers.Layer):
    """A Reusable SavedModel as a Keras 3 layer, with the arguments of `tensorflow_hub.KerasLayer`.

    The layer works in Sequential and functional models and in loops of one's own. `trainable` may change at any time
    (compile again); the SavedModel is called with `training=True` where the layer is trainable and called for
    training, and its regularization losses are in `losses` while the layer is trainable. A `.keras` file carries the
    SavedModel, so that it opens where the handle does not exist.

    Under `MirroredStrategy` make the layer within the strategy's scope; Keras must be 3.8 or newer. Keras 3 has no
    `fit` under `MultiWorkerMirroredStrategy`, only loops of one's own with `strategy.run`.

    A SavedModel is a program: load only those that you trust, and `.keras` files with them.

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
        **kwargs: of every Keras layer: `name`, `dtype`. Under a half-precision policy inputs are cast
            to what the SavedModel takes and outputs to the compute dtype; the SavedModel computes as it was saved.

    Attributes:
        resolved_object: what was loaded.

    Raises:
        hubkeras.Error: there is no SavedModel behind `handle`, or a damaged one, or none that these arguments fit.
    """

    def __init__(
        self,
        handle,
        trainable=False,
        arguments=None,
        _sentinel=None,
        tags=None,
        signature=None,
        signature_outputs_as_dict=None,
        output_key=None,
        output_shape=None,
        load_options=None,
        **kwargs,
    ):
        if keras.backend.backend() != "tensorflow":
            raise Error(
                f"KerasLayer runs SavedModels, which needs Keras on TensorFlow, not on {keras.backend.backend()}; "
                "set KERAS_BACKEND=tensorflow before keras is imported."
            )
        if _sentinel is not None:
            raise Error("KerasLayer takes handle, trainable and arguments by position; name the others.")
        if signature and (output_key is not None) == bool(signature_outputs_as_dict):
            raise Error("With a signature, give either output_key or signature_outputs_as_dict=True.")
        if signature_outputs_as_dict and not signature:
            raise Error("signature_outputs_as_dict is for a signature; name the signature, or leave it out.")
        _check_strategy()
        deferred = kwargs.pop("_deferred", False)
        # inputs are cast to what the SavedModel takes, not to what Keras computes with
        super().__init__(trainable=trainable, **{"autocast": False, **kwargs})
        self._config = {
            "handle": handle if callable(handle) else os.fspath(handle),
            "arguments": dict(arguments or {}),
            "tags": tags,
            "signature": signature,
            "signature_outputs_as_dict": signature_outputs_as_dict,
            "output_key": output_key,
            "output_shape": output_shape,
        }
        self._load_options = load_options
        self._variable_specs = []
        self._output_specs = None
        self._values_given = False  # whether variables hold values that loading the SavedModel must not replace
        self._object = self._callable = self._folder = None
        self._range_unseen = True
        if not deferred:
            self._load()

    @property
    def resolved_object(self):
        self._load()
        return self._object

    # Loading: at construction; for a layer from a config at the latest when it is called, see `from_config`.

    def _load(self):
        if self._callable is None:
            handle = self._config["handle"]
            with tf.init_scope():  # the first call may be the trace of a tf.function
                self._bind(handle if callable(handle) else self._load_folder(resolve(handle)))

    def _load_folder(self, folder):
        if os.path.isfile(os.path.join(folder, "tfhub_module.pb")):
            raise Error(
                f"{folder} is a TF1 Hub module; KerasLayer needs a TF2 SavedModel: `hubkeras export` makes one."
            )
        if not tf.saved_model.contains_saved_model(folder):
            raise Error(f"{folder} is not a SavedModel: it holds no saved_model.pb.")
        try:
            with reading(folder):
                integrity.check(folder)
                loaded = tf.saved_model.load(folder, tags=self._config["tags"], options=self._load_options)
        except Error:
            raise
        except (tf.errors.OpError, OSError, ValueError, RuntimeError) as error:
            raise Error(f"{folder} cannot be loaded as a SavedModel: {str(error).splitlines()[0]}") from error
        self._folder = folder
        return loaded

    def _bind(self, loaded):
        """Takes over the functions and variables of `loaded`, in place of those that the layer may have."""
        function = self._find_callable(loaded)
        trainable = list(getattr(loaded, "trainable_variables", []))
        known = {id(variable) for variable in trainable}
        others = [variable for variable in getattr(loaded, "variables", []) if id(variable) not in known]
        losses = list(getattr(loaded, "regularization_losses", []))
        if not all(map(callable, losses)):
            raise Error("The SavedModel's regularization_losses must be functions without arguments.")
        specs = variable_specs(trainable, others)
        if self._variable_specs and list(self._variable_specs) != specs:
            raise Error(
                f"The SavedModel of {self.name} has other variables than the layer was saved with; "
                "give the one that it was made from."
            )
        if not self._variable_specs:
            self._track_variables([*trainable, *others], specs)
        for saved, variable in zip(self._own_variables(), [*trainable, *others], strict=True):
            if self._values_given:
                variable.assign(saved.value)
            saved.bind(variable)
        if losses and trainable:
            self._own_variables()[0].regularizer = SavedRegularization(losses)
        self._object, self._callable = loaded, function
        self._input_dtypes, self._takes_training = inputs_of(function)
        of_saved_model = not callable(self._config["handle"]) and not self._config["signature"]
        self._eager_callable = for_any_shape(function) if of_saved_model else function

    def _find_callable(self, loaded):
        signature, signatures = self._config["signature"], getattr(loaded, "signatures", {})
        given = "The given object" if callable(self._config["handle"]) else self._config["handle"]
        names = ", ".join(signatures) or "none"
        if signature:
            if signature not in signatures:
                raise Error(f"{given} has no signature {signature!r}; its signatures: {names}.")
            return signatures[signature]
        if not callable(loaded):
            raise Error(
                f"{given} is not a Reusable SavedModel (it has no __call__), like TF1 modules and models for serving "
                f"only; name one of its signatures ({names}) for inference, signature='serving_default'."
            )
        return loaded

    def _track_variables(self, variables, specs):
        """Makes the layer's Keras variables, which stand for `variables`."""
        for variable, spec in zip(variables, specs, strict=True):
            *scopes, leaf = spec["name"].split("/")
            with contextlib.ExitStack() as stack:
                for scope in (self.name, *scopes):
                    stack.enter_context(keras.name_scope(scope))
                saved = SavedVariable(
                    variable, shape=spec["shape"], dtype=spec["dtype"], trainable=spec["trainable"], name=leaf
                )
            self._track_variable(saved)
        self._variable_specs = specs
        self.built = True

    def _own_variables(self):
        """The layer's variables in the order of `_variable_specs`: trainable ones first, frozen or not."""
        return [*self._trainable_variables, *self._non_trainable_variables]

    # Calling.

    def build(self, input_shape=None):
        self._load()
        self.built = True

    def call(self, inputs, training=None):
        self._load()
        self._check_trainability()
        arguments = dict(self._config["arguments"])
        if self._takes_training:
            arguments["training"] = bool(training) and self.trainable
        self._check_range(inputs)
        inputs = self._cast_inputs(inputs)
        function = self._eager_callable if tf.executing_eagerly() else self._callable
        if self._config["signature"] and isinstance(inputs, dict):
            outputs = function(**inputs, **arguments)
        elif self._config["signature"] and not arguments:
            outputs = function(inputs)
        else:
            outputs = function(inputs, **arguments)
        return self._finish(inputs, self._select(outputs))

    def _check_range(self, inputs):
        """Looks once whether eager images for a SavedModel of hubkeras are in [0, 1]."""
        if self._range_unseen and len(getattr(inputs, "shape", ())) == 4 and hasattr(self._object, "metadata"):
            self._range_unseen = not warn_of_range(inputs)

    def _check_trainability(self):
        if self.trainable and self._config["signature"]:
            raise Error("A signature cannot be trained; set trainable=False, or leave the signature out.")

    def _cast_inputs(self, inputs):
        """Float inputs in the dtype that the SavedModel takes."""
        flat = tf.nest.flatten(inputs)
        if len(flat) != len(self._input_dtypes):
            return inputs
        cast = []
        for value, dtype in zip(flat, self._input_dtypes, strict=True):
            value = tf.convert_to_tensor(value)
            if value.dtype != dtype:
                if not (value.dtype.is_floating and dtype.is_floating):
                    raise Error(f"{self.name} takes {dtype.name} inputs; got {value.dtype.name}.")
                value = tf.cast(value, dtype)
            cast.append(value)
        return tf.nest.pack_sequence_as(inputs, cast)

    def _select(self, outputs):
        key = self._config["output_key"]
        if key is None:
            return outputs
        if not isinstance(outputs, dict):
            raise Error(
                f"output_key={key!r} needs a SavedModel that returns a dict; it returns a {type(outputs).__name__}."
            )
        if key not in outputs:
            raise Error(f"The SavedModel has no output {key!r}; its outputs: {', '.join(sorted(outputs))}.")
        return outputs[key]

    def _finish(self, inputs, outputs):
        """Outputs in the compute dtype, with the static shapes that the user gave."""

        def cast(output):
            wanted = self.compute_dtype and tf.as_dtype(self.compute_dtype)
            castable = output.dtype.is_floating and wanted and wanted.is_floating
            return tf.cast(output, wanted) if castable else output

        outputs = tf.nest.map_structure(cast, outputs)
        if self._config["output_shape"] is not None:
            batch = tf.nest.flatten(inputs)[0].shape[:1]
            shapes = _shapes(self._config["output_shape"])
            tf.nest.map_structure(lambda output, shape: output.set_shape(batch.concatenate(shape)), outputs, shapes)
        return outputs

    def compute_output_spec(self, inputs, training=None):
        if self._callable is None and self._output_specs is not None:
            return keras.saving.deserialize_keras_object(self._output_specs)
        self._load()
        # not Layer's, which asks compute_output_shape
        outputs = keras.Operation.compute_output_spec(self, inputs, training=training)
        self._output_specs = keras.saving.serialize_keras_object(outputs)
        return outputs

    def compute_output_shape(self, input_shape):
        if self._config["output_shape"] is not None:
            batch = tf.TensorShape(input_shape)[:1]
            shapes = _shapes(self._config["output_shape"])
            return tf.nest.map_structure(lambda shape: tuple(batch.concatenate(shape)), shapes)
        self._load()
        dtype = self._input_dtypes[0].name if self._input_dtypes else self.compute_dtype
        inputs = keras.KerasTensor(input_shape, dtype)
        return keras.tree.map_structure(lambda output: output.shape, self.compute_output_spec(inputs))

    # Saving.

    def get_config(self):
        """The arguments of the constructor.

        Raises:
            hubkeras.Error: the layer was made from an object, or `arguments` or `output_shape` are not JSON-ready.
        """
        if callable(self._config["handle"]):
            raise Error("Only a KerasLayer with a handle of type str has a config; this one was made from an object.")
        for name in ("arguments", "output_shape"):
            try:
                json.dumps(self._config[name])
            except TypeError as error:
                raise Error(f"{name} of KerasLayer must be JSON-ready to be saved: {error}.") from error
        return {**super().get_config(), **{name: value for name, value in self._config.items() if value}}

    @classmethod
    def from_config(cls, config):
        """The layer of a config; it loads its SavedModel when it is built, since a `.keras` file brings its own."""
        return cls(**config, _deferred=True)

    def get_build_config(self):
        if self._callable is None:
            return None
        return {"variables": list(self._variable_specs), "outputs": self._output_specs}

    def build_from_config(self, config):
        """Makes the variables that the layer was saved with.

        They take their values from the SavedModel where it is on this machine, else when a file of weights or the
        first call brings them.
        """
        self._output_specs, specs = config["outputs"], config["variables"]
        zeros = [tf.Variable(tf.zeros(spec["shape"], spec["dtype"]), spec["trainable"]) for spec in specs]
        self._track_variables(zeros, specs)
        if is_local(self._config["handle"]):
            with contextlib.suppress(Error):  # another SavedModel has taken its place
                self._load()

    def save_assets(self, inner_path):
        self._load()
        try:
            shutil.copytree(self._folder, os.path.join(inner_path, _ARCHIVED))
        except OSError as error:
            raise Error(f"The SavedModel of {self.name} at {self._folder} is gone; it cannot be saved.") from error

    def load_assets(self, inner_path):
        # Keras removes its folder after loading; this one lasts as long as the layer
        self._archived = tempfile.TemporaryDirectory(prefix="hubkeras-")
        folder = pathlib.Path(self._archived.name) / _ARCHIVED
        shutil.copytree(os.path.join(inner_path, _ARCHIVED), folder)
        self._bind(self._load_folder(str(folder)))

    def load_own_variables(self, store):
        if not self._variable_specs:
            self._load()
        super().load_own_variables(store)
        self._values_given = True


def _check_strategy():
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


def _shapes(nest):
    """`nest` with its shapes, tuples or lists of integers or None, as `tf.TensorShape`."""
    if isinstance(nest, dict):
        return {key: _shapes(value) for key, value in nest.items()}
    with contextlib.suppress(TypeError):
        return tf.TensorShape(nest)
    return type(nest)(_shapes(value) for value in nest)
