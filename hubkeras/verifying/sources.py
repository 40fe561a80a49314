"""How far a model is from the source that it was made of."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.choices import Averages
from hubkeras.common.errors import Error
from hubkeras.common.guards import integrity
from hubkeras.common.input_range import InputRange
from hubkeras.common.metadata import Metadata, read_metadata
from hubkeras.common.parity import Parity
from hubkeras.common.places import model_folder
from hubkeras.common.plain_settings import plain_settings
from hubkeras.common.progress import Progress, silent
from hubkeras.converters import read_network
from hubkeras.converters.sources import models_in_memory
from hubkeras.converters.sources.models_in_memory import AnySource
from hubkeras.runtimes import files
from hubkeras.runtimes.opening import open_model
from hubkeras.verifying.against import Images, verify_against
from hubkeras.verifying.comparing import compare_outputs, compare_saved_model


@plain_settings()
def verify(
    model: str | os.PathLike[str],
    source: AnySource | None = None,
    weights: str | None = None,
    progress: Progress = silent,
    safe_mode: bool = True,
    *,
    against: Any = None,
    images: Images | None = None,
    input_range: Sequence[float] | None = None,
) -> Parity:
    """Compares a model with a source, weights bit by bit and outputs with those recomputed in float64.

    Or with the original model, which its own library runs, see `verify_against`.

    Args:
        model: a SavedModel, or a file for a runtime, which has no weights that could be compared and is run there.
        source: of weights, in any form, or a Keras model in memory.
        weights: `ema` or `raw`; by default as the model's metadata say.
        progress: called with (done, total, what).
        safe_mode: whether to refuse a model that could do more than compute.
        against: in place of `source` the original, in a file, a folder or memory.
        images, input_range: with `against`, see `verify_against`.

    Raises:
        hubkeras.Error: neither or both are given, either cannot be read, they are of different networks, or the runtime
            is not installed.
    """
    if (source is None) == (against is None):
        raise Error("Give one of source (--source) and against (--against) to compare with.")
    if source is None:
        return verify_against(
            model, against, images=images, input_range=input_range, safe_mode=safe_mode, progress=progress
        )
    if images is not None or input_range is not None:
        raise Error("images and input_range are for the comparison with an original (against); leave them out.")
    path, reference = pathlib.Path(model), models_in_memory.name_of(source)
    if files.is_runtime_file(path):
        opened = open_model(path, safe_mode=safe_mode)
        metadata = opened.metadata
        if metadata is None:
            raise Error(f"{path} does not say what it was made of; it is no file that hubkeras convert wrote.")
        network, _ = _read(source, metadata, weights, progress)
        if (network.architecture, network.settings()) != (metadata.architecture, metadata.settings):
            raise Error(f"{path} and {reference} are of different networks: their settings differ.")
        return compare_outputs(opened, network, reference)
    path = model_folder(path)
    integrity.check(path)  # before its metadata are believed
    network, digests = _read(source, read_metadata(path), weights, progress)
    return compare_saved_model(path, network, reference, digests=digests, safe_mode=safe_mode)


def _read(
    source: AnySource, metadata: Metadata, weights: str | None, progress: Progress
) -> tuple[SlimNetwork, dict[str, str]]:
    """The network of a source with the settings of a model, and the digests of its tensors."""
    head: dict[str, Any] = {} if metadata.num_classes else {"num_classes": None}
    if weights is None and metadata.weights == Averages.RAW:  # averages are taken by default
        weights = Averages.RAW
    seen = InputRange.of_settings(metadata.settings)  # which a source may not say
    network, _, report = read_network(source, weights=weights, progress=progress, seen=seen, **head)
    own, defaults = network.settings(), network.variations
    # an export may have been asked for the default where the source says otherwise
    free = ("output_stride", "input_range", "input_mean", "input_std")
    wanted = {name: defaults[name] for name in free if name in own.keys() & defaults.keys()}
    wanted |= {name: value for name, value in metadata.settings.items() if name in defaults and name != "head"}
    if changes := {name: value for name, value in wanted.items() if value != own.get(name, defaults[name])}:
        network = network.copy(**changes)
    progress(0, 1, "computing outputs")
    return network, report.digests
