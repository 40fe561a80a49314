"""What is compared: hubkeras in its forms, and those peers that are installed."""

import fnmatch
import itertools
import os
import pathlib
from functools import partial

import numpy as np
import tensorflow as tf

import hubkeras
from hubkeras import architectures
from hubkeras.runtimes import files as runtime_files
from hubkeras.verifying import sample_images

NETWORKS = {network.architecture: network.__name__ for network in architectures.NETWORKS}
RUNTIMES = (
    ("ONNX Runtime", "onnxruntime", ".onnx"),
    ("LiteRT", "ai_edge_litert", ".tflite"),
    ("OpenVINO", "openvino", ".xml"),
)
FORMS = ({}, {"fixed_size": True}, {"fixed_size": True, "int8": True})  # of our files for runtimes
OURS = "hubkeras"  # how the names of our contestants begin
CALIBRATION = 100  # images, random ones: what they show does not change the speed


def optional(module):
    """An installed module, or None."""
    try:
        return __import__(module)
    except ImportError:
        print(f"{module} is not installed: left out")
        return None


def application(library, network):
    """The constructor of the same network in `keras.applications` or `tf_keras.applications`, or None."""
    return None if library is None else getattr(library.applications, NETWORKS[network], None)


def no_zeros(variables):
    """Makes shifts random: TensorFlow would leave out the addition of zeros, and miss its fusion with what follows."""
    random = np.random.RandomState(0)
    for name, variable in variables.items():
        if name.rsplit("/", 1)[-1] in ("beta", "bias", "biases", "moving_mean"):
            variable.assign(random.normal(0, 0.1, variable.shape))


def slim_graph(folder, network):
    """Path of the frozen graph of TF-Slim in a folder, or None where there is no folder or no such graph."""
    path = folder and folder / f"{network}.pb"
    return path if path and path.is_file() else None


class Files:
    """A network with random weights on disk, in the forms that the benchmarks read. Made when first asked for.

    Args:
        network: a key of `NETWORKS`.
        directory: where to write.
    """

    def __init__(self, network, directory):
        self.network = network
        self.directory = pathlib.Path(directory)
        self.model = getattr(hubkeras, NETWORKS[network])()
        no_zeros(self.model.slim_variables())

    def checkpoint(self):
        """Path prefix of a Slim checkpoint."""
        prefix = str(self.directory / "model.ckpt")
        if not os.path.exists(prefix + ".index"):
            variables = self.model.slim_variables()
            tf.raw_ops.SaveV2(
                prefix=prefix,
                tensor_names=list(variables),
                shape_and_slices=[""] * len(variables),
                tensors=[v.value for v in variables.values()],
            )
        return prefix

    def saved_model(self, task="classification", frozen=False):
        """Folder of a SavedModel."""
        path = self.directory / f"{task}{'_frozen' if frozen else ''}"
        if not path.exists():
            hubkeras.export(self.model, path, task, frozen=frozen)
        return str(path)

    def for_runtime(self, ending, **options):
        """Path of a file for the runtime of this ending, `.onnx`; `options` as of `hubkeras.convert`."""
        path = self.directory / f"{'_'.join(['model', *options])}{ending}"
        if not path.exists():
            if "int8" in options:
                options["int8"] = self.directory / "calibration.npz"
                np.savez(options["int8"], sample_images(self.model.default_image_size, CALIBRATION))
            hubkeras.convert(self.model, path, **options)
        return str(path)


def inference(files, size, slim_frozen=None):
    """Functions from images, float32 `[batch, size, size, 3]`, to logits.

    Where oneDNN is on, those of TensorFlow share its convolutions in this process, made for whichever ran first: a
    frozen model can be slower than alone. `hubkeras benchmark` runs each model in a process of its own.

    Args:
        files: a `Files`.
        size: height and width.
        slim_frozen: path of a frozen graph of TF-Slim, input `images`, output `logits`, or None.
    """
    hub = optional("tensorflow_hub")
    load = hub.KerasLayer if hub else tf.saved_model.load
    contestants = {
        "hubkeras": compiled(load(files.saved_model())),
        "hubkeras frozen": compiled(load(files.saved_model(frozen=True))),
        "hubkeras native": compiled(files.model),
    }
    for name in ("keras", "tf_keras"):
        constructor = application(optional(name), files.network)
        if constructor:
            model = constructor(weights=None, input_shape=(size, size, 3), classes=1001)
            contestants[f"{name}.applications"] = compiled(partial(model, training=False))
    if slim_frozen:
        contestants.update(slim_graphs(slim_frozen, size))
    for runtime, module, ending in RUNTIMES:
        if optional(module):
            loaded = runtime_files.load(files.for_runtime(ending))
            contestants[f"hubkeras, {runtime}"] = loaded.run
    return contestants


def files_of_runtimes(files, slim_frozen=None, names=("*",)):
    """Models on disk for `hubkeras.runtimes.measuring.compare`, which runs each in a process of its own.

    Ours, and the peers as Keras' `export` and the runtimes' converters bring them there, at the default image size. A
    peer that its converter refuses is left out, with a line that says so.

    Args:
        files: a `Files`.
        slim_frozen: as for `inference`.
        names: which to make, patterns of `fnmatch`.

    Returns:
        `{name: path}`.
    """
    runtimes = [(runtime, ending) for runtime, module, ending in RUNTIMES if optional(module)]
    makers = {"hubkeras": files.saved_model, "hubkeras frozen": partial(files.saved_model, frozen=True)}
    for (runtime, ending), options in itertools.product(runtimes, FORMS):
        makers[" ".join([f"hubkeras, {runtime}", *options])] = partial(files.for_runtime, ending, **options)
    peers = {}
    if application(optional("keras"), files.network):
        peers["keras.applications"] = partial(export_application, files)
    if slim_frozen:
        peers["Slim frozen"] = partial(export_graph, slim_frozen)
    for (name, export), (runtime, ending) in itertools.product(peers.items(), [("TensorFlow", ""), *runtimes]):
        path = files.directory / (name.replace(" ", "_").replace(".", "_") + ending)
        makers[f"{name}, {runtime}"] = partial(export, path)
    models = {}
    for name, make in makers.items():
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in names):
            try:
                models[name] = make()
            except Exception as error:  # of any converter
                if name.startswith(OURS):
                    raise
                print(f"{name}: left out ({str(error)[:200]})")
    return models


def export_application(files, path):
    """Writes the network of `keras.applications` as Keras does, a SavedModel where the path has no ending."""
    import keras

    size = files.model.default_image_size
    model = application(keras, files.network)(weights=None, input_shape=(size, size, 3), classes=1001)
    no_zeros({variable.path: variable for variable in model.variables})
    model(sample_images(size, 1))  # Keras writes what has been called
    formats = {"": "tf_saved_model", ".onnx": "onnx", ".xml": "openvino", ".tflite": "litert"}
    model.export(str(path), format=formats[path.suffix], verbose=False)
    return str(path)


def export_graph(graph, path):
    """Writes a frozen graph of TF-Slim as the runtimes' converters do, a SavedModel where the path has no ending."""
    definition = definition_of(graph)
    if path.suffix == ".onnx":
        import tf2onnx

        ends = {"input_names": ["images:0"], "output_names": ["logits:0"]}
        tf2onnx.convert.from_graph_def(definition, **ends, opset=18, output_path=str(path))
        return str(path)
    folder = path.with_suffix("")
    if not folder.exists():
        session = session_of(definition)
        images, logits = (session.graph.get_tensor_by_name(f"{name}:0") for name in ("images", "logits"))
        with session.graph.as_default():
            tf.compat.v1.saved_model.simple_save(session, str(folder), {"images": images}, {"logits": logits})
    if path.suffix == ".xml":
        import openvino

        openvino.save_model(openvino.convert_model(str(folder)), str(path), compress_to_fp16=False)
    elif path.suffix == ".tflite":
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert())
    return str(path)


def compiled(function):
    """`function` as a `tf.function` that takes and returns arrays."""
    graph = tf.function(lambda images: function(images), autograph=False)
    return lambda images: np.asarray(graph(tf.constant(images)))


def definition_of(path):
    """What a frozen graph of TF-Slim holds."""
    return tf.compat.v1.GraphDef.FromString(pathlib.Path(path).read_bytes())


def session_of(definition):
    """A session over a frozen graph of TF-Slim."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    return tf.compat.v1.Session(graph=graph)


def slim_graphs(path, size):
    """Calls of a frozen graph of TF-Slim, and of the same graph with variables for its constants.

    Returns:
        `{"Slim frozen": function, "Slim variables": function}`, or nothing where the graph has another image size.
    """
    frozen = session_of(definition_of(path))
    if frozen.graph.get_tensor_by_name("images:0").shape[1] not in (None, size):
        return {}
    sessions = {"Slim frozen": frozen, "Slim variables": with_variables(frozen.graph.as_graph_def())}
    return {
        name: lambda images, session=session: session.run("logits:0", {"images:0": images})
        for name, session in sessions.items()
    }


def with_variables(definition):
    """A session over a graph whose float constants of one dimension or more have become variables."""
    weights = {
        node.name: tf.make_ndarray(node.attr["value"].tensor)
        for node in definition.node
        if node.op == "Const" and node.attr["dtype"].type == tf.float32.as_datatype_enum
    }
    weights = {name: value for name, value in weights.items() if value.ndim}
    with tf.Graph().as_default() as graph:
        variables = {name: tf.compat.v1.Variable(value, use_resource=True) for name, value in weights.items()}
        replaced = {f"{name}:0": variable.read_value() for name, variable in variables.items()}
        tf.import_graph_def(definition, input_map=replaced, name="")
        session = tf.compat.v1.Session(graph=graph)
        session.run(tf.compat.v1.global_variables_initializer())
    return session


def training(files, size, batch, classes=10):
    """Functions without arguments: one SGD step of all layers on images `[batch, size, size, 3]`, as `fit` runs it.

    Not `train_on_batch`, in which tf_keras makes a dataset at each call.
    """
    import keras

    images, labels = sample_images(size, batch), np.random.RandomState(0).randint(0, classes, batch)
    batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())

    def step(library, layers, **options):
        model = library.Sequential([*layers, library.layers.Dense(classes)])
        loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(library.optimizers.SGD(1e-4), loss, **options)
        model.train_on_batch(images, labels)  # builds it and makes its train function
        return lambda: tf.nest.map_structure(np.asarray, model.train_function(batches))

    native = type(files.model)(num_classes=None)
    saved = files.saved_model("feature_vector")
    layer = hubkeras.KerasLayer(saved, trainable=True)
    contestants = {"hubkeras native": step(keras, [native]), "hubkeras.KerasLayer": step(keras, [layer])}
    tf_keras, hub = optional("tf_keras"), optional("tensorflow_hub")
    if tf_keras and hub:
        contestants["hubkeras"] = step(tf_keras, [hub.KerasLayer(saved, trainable=True)])
    # XLA has no fast depthwise convolution on CPU
    for library, options in ((keras, {"jit_compile": False}), (tf_keras, {})):
        constructor = application(library, files.network)
        if constructor:
            network = constructor(weights=None, include_top=False, pooling="avg", input_shape=(size, size, 3))
            contestants[f"{library.__name__}.applications"] = step(library, [network], **options)
    return contestants


def loading(files):
    """Functions without arguments that load a model from disk."""
    import keras

    path = files.saved_model()
    contestants = {"hubkeras": lambda: tf.saved_model.load(path)}
    constructor = application(keras, files.network)
    if constructor:
        saved = str(files.directory / "application.keras")
        constructor(weights=None).save(saved)
        contestants["keras.applications"] = lambda: keras.models.load_model(saved)
    return contestants


def exporting(files):
    """Functions without arguments that build a network and write it as a SavedModel."""
    import keras

    from hubkeras.commands import main

    checkpoint, target = files.checkpoint(), str(files.directory / "exported")
    contestants = {"hubkeras": lambda: main(["export", checkpoint, target, "--overwrite"])}
    constructor = application(keras, files.network)
    if constructor:
        path = str(files.directory / "exported_application")
        contestants["keras.applications"] = lambda: constructor(weights=None).export(path, verbose=False)
    return contestants
