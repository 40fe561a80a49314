"""TF-Slim's side of the tests: golden figures, and checkpoints written by TF1's Saver from the golden weight recipe.

The figures come from `tests/golden/slim_reference.py`, which ran TF-Slim's own graphs; each file tells its settings in
`config`.
"""

import functools
import json
import pathlib
import zlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
# one by one, so that a lost file is a failure and not fewer tests; `tests/test_project.py` compares with the folder
NAMES = (
    "inception_resnet_v2_160_7classes_noaux",
    "inception_resnet_v2_299",
    "inception_v2_171_5classes",
    "inception_v2_224",
    "mobilenet_v2_0.35_96",
    "mobilenet_v2_0.35_96_ema",
    "mobilenet_v2_1.0_224",
    "mobilenet_v2_1.3_128_11classes",
)


def recipe(name, shape, salt=""):
    """The weights of the variable `name`, as `slim_reference.py` draws them."""
    random = np.random.RandomState(zlib.crc32((salt + name).encode()))
    leaf = name.rsplit("/", 1)[-1]
    if leaf in ("moving_variance", "gamma"):
        value = random.uniform(0.5, 1.5, shape)
    elif leaf in ("moving_mean", "beta", "biases"):
        value = random.normal(0.0, 0.1, shape)
    elif leaf == "depthwise_weights":
        value = random.normal(0.0, np.sqrt(2 / (shape[0] * shape[1])), shape)
    else:
        value = random.normal(0.0, np.sqrt(2 / np.prod(shape[:-1])), shape)
    return value.astype(np.float32)


def is_statistic(name):
    return name.endswith(("/moving_mean", "/moving_variance"))


class Golden:
    """The figures of one file: `golden["logits"]`, and its settings: `golden.config["num_classes"]`."""

    def __init__(self, name):
        with np.load(GOLDEN / f"{name}.npz") as file:
            self.figures = dict(file)
        self.name = name
        self.config = json.loads(str(self.figures["config"]))

    def __getitem__(self, key):
        return self.figures[key]

    def of(self, start):
        """The figures whose keys start with `start/`, without that."""
        return {
            key.removeprefix(f"{start}/"): value for key, value in self.figures.items() if key.startswith(f"{start}/")
        }

    @functools.cached_property
    def images(self):
        shape = (self.config["batch"], self.config["image_size"], self.config["image_size"], 3)
        return np.random.RandomState(7).uniform(0, 1, shape).astype(np.float32)

    @property
    def shapes(self):
        """`{variable name: shape}` of Slim's graph, in its order."""
        return {str(name): json.loads(str(shape)) for name, shape in zip(self["names"], self["shapes"], strict=True)}

    def weights(self):
        """`{variable name: value}` that the figures were computed with, AuxLogits too."""
        shadow = "ema/" if self.config["ema"] else ""
        return {n: recipe(n, s, "" if is_statistic(n) else shadow) for n, s in self.shapes.items()}

    def tensors(self):
        """`{tensor name: value}` of the whole checkpoint; with `extras` in the settings also what training leaves."""
        tensors = {name: recipe(name, shape) for name, shape in self.shapes.items()}
        if self.config["extras"]:
            for name, shape in self.shapes.items():
                if not is_statistic(name):
                    tensors[f"{name}/ExponentialMovingAverage"] = recipe(name, shape, "ema/")
                    tensors[f"{name}/RMSProp"] = np.ones(shape, np.float32)
                    tensors[f"{name}/RMSProp_1"] = np.zeros(shape, np.float32)
            tensors["global_step"] = np.int64(123456)
        return tensors

    def save(self, path, version="v2"):
        """Writes the checkpoint; see `save_checkpoint`."""
        return save_checkpoint(self.tensors(), path, version)


def save_checkpoint(tensors, path, version="v2", state_file=False):
    """Writes tensors by name with the operations of TF1's Saver, in format `v1` (one file) or `v2`; gives the path."""
    import tensorflow as tf  # the figures alone serve backends without it

    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    names = sorted(tensors)
    values = [tf.constant(np.asarray(tensors[name])) for name in names]
    if version == "v1":
        tf.raw_ops.Save(filename=str(path), tensor_names=names, data=values)
    else:
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)
    if state_file:
        lines = [f'{field}: "{path}"' for field in ("model_checkpoint_path", "all_model_checkpoint_paths")]
        (path.parent / "checkpoint").write_text("\n".join([*lines, ""]))
    return path


def tensors_of(figures):
    shapes = zip(figures["names"], figures["shapes"], strict=True)
    return {str(name): recipe(str(name), json.loads(str(shape))) for name, shape in shapes}


def fill(model):
    """Gives a model the weights of the recipe, by the kind and the number of each."""
    leaves = {"kernel": "weights", "depthwise_kernel": "depthwise_weights", "bias": "biases"}
    values = []
    for number, variable in enumerate(model.weights):
        leaf = variable.name.split(":")[0].rsplit("/", 1)[-1]
        values.append(recipe(f"{number}/{leaves.get(leaf, leaf)}", tuple(variable.shape)))
    model.set_weights(values)
    return model


def relative_error(value, reference):
    """Largest absolute difference over the largest absolute value of the reference, where that is not all zero."""
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    assert value.shape == reference.shape
    assert np.isfinite(value).all()
    return np.abs(value - reference).max() / (np.abs(reference).max() or 1.0)


def sample(tensor):
    """64 values of a tensor at the flat positions of the golden end points."""
    flat = np.asarray(tensor).reshape(-1)
    return flat[np.linspace(0, flat.size - 1, 64).astype(np.int64)]


def assert_gradients(golden, gradients, each, median):
    """Checks the norm of every variable's gradient against Slim's in float64.

    Gradients of float32 depend on the processor, Slim's own by up to 1.9e-2 of a norm: a ReLU6 that switches by
    rounding. Where the gradient is zero in exact arithmetic (the betas before a batch norm with no activation between)
    float32 leaves rounding, and is only checked to be that small.

    Args:
        golden: a `Golden`.
        gradients: of `mean(train_features ** 2)`, in the order of `grad_names`.
        each: the largest relative error of a norm.
        median: the largest median of these errors.
    """
    norms = np.array([np.linalg.norm(np.asarray(gradient)) for gradient in gradients])
    expected = golden["grad_norm64"]
    rounding = 1e-6 * expected.max()
    real = expected > rounding
    assert real.mean() > 0.85
    errors = np.abs(norms - expected)[real] / expected[real]
    assert errors.max() < each, golden["grad_names"][real][errors.argmax()]
    assert np.median(errors) < median
    assert (norms[~real] < 2 * rounding).all()
