"""From the tensors of a checkpoint to the weights of a network, and to a Keras weights file."""

import json
from dataclasses import dataclass, field

import h5py
import keras
import numpy as np

from hubkeras.common.errors import Error
from hubkeras.common.files import written_whole
from hubkeras.common.version import __version__
from hubkeras.converters.matching import match
from hubkeras.converters.sources import H5_ATTRIBUTE, open_checkpoint

CHOICES = ("ema", "raw")
SHADOW = "/ExponentialMovingAverage"


@dataclass
class Report:
    """What became of the tensors of a checkpoint.

    Attributes:
        source: what was read, as the user named it.
        provenance: file names and SHA-256, see `Checkpoint.provenance`.
        read: number of tensors in the checkpoint.
        used: number of variables of the network; each took one tensor.
        shadows: how many of these took the exponential moving average.
        ignored: number of other tensors by kind.
        weights: `ema` where at least one shadow was used, else `raw`.
        notes: sentences that the user should read.
    """

    source: str
    provenance: dict
    read: int
    used: int
    shadows: int
    ignored: dict
    weights: str
    notes: list = field(default_factory=list)


def plan(checkpoint, found, variables, weights="ema"):
    """Chooses a tensor for every variable, and accounts for the other tensors.

    Args:
        checkpoint: a `Checkpoint`.
        found: its `Match`.
        variables: the network's, `{name: variable}`.
        weights: `ema` takes a variable's shadow wherever there is one, `raw` never.

    Returns:
        `{variable name: tensor name}` and the `Report`.

    Raises:
        hubkeras.Error: a variable is missing, or of another shape or dtype, or a tensor is of no known kind.
    """
    if weights not in CHOICES:
        raise Error(f"weights must be one of {', '.join(CHOICES)}; got {weights!r}.")
    root = found.network.scope + "/"
    chosen, missing = {}, []
    for name, variable in variables.items():
        inner = name.removeprefix(root)
        tensor = found.tensors.get(inner)
        if tensor is None:
            missing.append(name)
            continue
        shadow = found.tensors.get(inner + SHADOW)
        chosen[name] = shadow if shadow and weights == "ema" else tensor
        for candidate in filter(None, (tensor, shadow)):
            _check_form(checkpoint, candidate, variable)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Error(
            f"{checkpoint.path}: the variable {missing[0]}{more} of {found.network.__name__} is missing; "
            "give a whole checkpoint of the network."
        )
    ignored, unknown = _account(checkpoint, found, set(chosen.values()))
    if unknown:
        raise Error(
            f"{checkpoint.path}: the variable {unknown[0]} is not one of TF-Slim's {found.network.__name__}"
            f" ({len(unknown)} such); the checkpoint is of a changed network."
        )
    shadows = sum(tensor.endswith(SHADOW) for tensor in chosen.values())
    report = Report(
        checkpoint.path,
        checkpoint.provenance(),
        len(checkpoint.shapes),
        len(chosen),
        shadows,
        ignored,
        "ema" if shadows else "raw",
    )
    report.notes.extend(checkpoint.notes)
    if weights == "ema" and not shadows:
        report.notes.append(
            "The checkpoint has no exponential moving averages of the weights; the raw weights were used."
        )
    if found.prefix:
        report.notes.append(f"The variables were found below the leading scope {found.prefix!r}.")
    return chosen, report


def _check_form(checkpoint, tensor, variable):
    shape, dtype = checkpoint.shapes[tensor], checkpoint.dtypes[tensor]
    if shape != tuple(variable.shape):
        raise Error(f"{checkpoint.path}: {tensor} has shape {list(shape)}, expected {list(variable.shape)}.")
    if dtype != "float32":
        raise Error(f"{checkpoint.path}: {tensor} has dtype {dtype}, expected float32.")


def _account(checkpoint, found, used):
    """The tensors that are not `used`: their number by kind, and the names that are of no kind."""
    kinds, unknown = {}, []
    inner_names = {tensor: inner for inner, tensor in found.tensors.items()}
    for tensor in sorted(checkpoint.shapes):
        if tensor in used:
            continue
        inner = inner_names.get(tensor)
        kind = checkpoint.kinds.get(tensor) or kind_of(tensor, inner, found)
        if kind is None:
            unknown.append(tensor)
        else:
            kinds[kind] = kinds.get(kind, 0) + 1
    return kinds, unknown


def kind_of(tensor, inner, found):
    """Why a tensor may be ignored, or None where it may not."""
    if inner is None:
        return "global_step" if tensor == "global_step" else f"other scope: {tensor.split('/')[0]}"
    if inner.startswith("AuxLogits/"):
        return "AuxLogits"
    if inner.endswith(SHADOW):
        return "exponential moving averages"
    if inner in found.tensors and inner + SHADOW in found.tensors:
        return "raw values with a moving average"
    if inner.rsplit("/", 1)[0] in found.tensors:
        return "optimizer slots"
    return "Logits" if inner.startswith("Logits/") else None


def read_values(checkpoint, chosen, progress=None):
    """Yields (variable name, float32 array) for the chosen tensors.

    Raises:
        hubkeras.Error: a tensor cannot be read, or holds NaN or infinity.
    """
    for done, (name, tensor) in enumerate(chosen.items(), start=1):
        value = checkpoint.read(tensor)
        if not np.isfinite(value).all():
            bad = int(value.size - np.isfinite(value).sum())
            raise Error(
                f"{checkpoint.path}: {tensor} holds NaN or infinity ({bad} of {value.size} values); it cannot be used."
            )
        yield name, value
        if progress:
            progress(done, len(chosen), "reading weights")


def read_network(source, num_classes="as in the checkpoint", weights="ema", progress=None):
    """Builds the network that a checkpoint is of, with its weights.

    Args:
        source: path of a checkpoint in any form of `hubkeras.converters.sources.ACCEPTED`.
        num_classes: None leaves the head out; by default it is built where the checkpoint has one.
        weights: `ema` or `raw`.
        progress: called with (done, total, what) as work goes on.

    Returns:
        The network, the `Match` and the `Report`.

    Raises:
        hubkeras.Error: see `match` and `plan`.
    """
    with open_checkpoint(source) as checkpoint:
        found = match(checkpoint)
        settings = {**found.settings, **({"num_classes": None} if num_classes is None else {})}
        if progress:
            progress(0, 1, "building the network")
        network = found.network(**settings, initialize=False)
        return network, found, _assign(network, checkpoint, found, weights, progress)


def load_weights(network, source, weights="ema", progress=None):
    """Gives a network the weights of a checkpoint of the same network.

    Args:
        network: a `SlimNetwork`; without a head it takes checkpoints of any number of classes.
        source, weights, progress: as for `read_network`.

    Returns:
        The `Report`.

    Raises:
        hubkeras.Error: the checkpoint is of another network or settings, or see `match` and `plan`.
    """
    with open_checkpoint(source) as checkpoint:
        found = match(checkpoint)
        if found.network is not type(network):
            raise Error(f"{source} is of {found.network.__name__}, not of {type(network).__name__}.")
        wanted, given = network.settings(), {**found.settings}
        if wanted["num_classes"] is None:
            given["num_classes"] = None
        if wanted["num_classes"] != given["num_classes"]:
            raise Error(
                f"{source} has {given['num_classes']} classes, the network {wanted['num_classes']}; build it with "
                "num_classes=None to train a head of your own."
            )
        return _assign(network, checkpoint, found, weights, progress)


def _assign(network, checkpoint, found, weights, progress):
    variables = network.slim_variables()
    chosen, report = plan(checkpoint, found, variables, weights)
    for name, value in read_values(checkpoint, chosen, progress):
        variables[name].assign(value)
    return report


def convert(source, path, weights="ema", overwrite=False, progress=None):
    """Writes the weights of a checkpoint as a Keras weights file.

    `keras.Model.load_weights` reads the file into the same network; the attribute `hubkeras` of the file is JSON:
    the network's settings, where the weights came from, and the dataset of each variable.

    Args:
        source, weights, progress: as for `read_network`.
        path: the file to write, ending in `.weights.h5`.
        overwrite: whether to replace a file that exists.

    Returns:
        The network, the `Match` and the `Report`.

    Raises:
        hubkeras.Error: see `read_network`; or the file exists or cannot be written.
    """
    if not str(path).endswith(".weights.h5"):
        raise Error(f"The weights file must end in .weights.h5, which Keras asks for; got {path}.")
    network, found, report = read_network(source, weights=weights, progress=progress)
    with written_whole(path, overwrite) as partial:
        network.save_weights(partial)
        attributes = {
            "architecture": network.architecture,
            "settings": network.settings(),
            "default_image_size": found.image_size,
            "source": report.provenance,
            "weights": report.weights,
            "versions": {"hubkeras": __version__, "keras": keras.__version__},
            "datasets": _datasets(network),
        }
        with h5py.File(partial, "a") as file:
            file.attrs[H5_ATTRIBUTE] = json.dumps(attributes)
    return network, found, report


def _datasets(network):
    """`{variable name: dataset}` of the weights file that Keras writes for a network.

    Keras puts the variables of a layer in `<attribute path>/vars/<number>`, and attributes are named after scopes.
    """
    datasets = {}
    heads = [] if network.head is None else [("head", network.head)]
    for start, stage in [*((stage.name, stage) for stage in network.stages()), *heads]:
        for scope, layer in stage.walk(""):
            path = "/".join([start, *scope.split("/")[2:]])
            for number, variable in enumerate(layer.own_variables()):
                datasets[f"{network.scope}{scope}/{variable.name}"] = f"{path}/vars/{number}"
    return datasets
