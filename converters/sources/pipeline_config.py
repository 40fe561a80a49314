"""The `pipeline.config` that TensorFlow's Object Detection API has beside its checkpoints, a protobuf in text form.

Of a single-shot detector it tells what neither names nor shapes do: the epsilon and the momentum of batch norm, and the
activation. Source: `protos/hyperparams.proto` and `models/ssd_*_feature_extractor.py`.
"""

import math
import pathlib
import re
from collections.abc import Collection, Iterator
from typing import Any

from hubkeras.common.errors import Error, first_line
from hubkeras.converters.naming import detectors
from hubkeras.converters.naming.detectors import Hyperparams
from hubkeras.converters.naming.renaming import Renaming

FILE = "pipeline.config"
_LARGEST = 1 << 20  # bytes; they have a few thousand
_TOKENS = re.compile(
    r"""[\s,;]+|\#[^\n]*|(?P<text>(?:(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')\s*)+)"""
    r"""|(?P<mark>[{}<>:\[\]])|(?P<word>[^\s,;{}<>:\[\]"'\#]+)|(?P<bad>.)"""
)
_ENDS = {"{": "}", "<": ">"}
_TRUE = ("true", "True", "t", "1")
_DEFAULTS = {"epsilon": 0.001, "decay": 0.999}  # of the message BatchNorm
# detectors whose network has these settings in any case; others only where they are said to override its own
_ALWAYS = "ssd_inception"


def renaming_of(names: Collection[str], folder: pathlib.Path, source: pathlib.Path) -> Renaming:
    """`detectors.renaming_of` with what the `pipeline.config` in a folder says, where it is a single-shot detector's.

    Raises:
        hubkeras.Error: as `read_hyperparams`.
    """
    single_shot = detectors.is_single_shot(names)
    return detectors.renaming_of(names, read_hyperparams(folder, source) if single_shot else None)


def read_hyperparams(folder: pathlib.Path, source: pathlib.Path) -> Hyperparams | None:
    """What the `pipeline.config` in a folder says of the network of a single-shot detector.

    Args:
        folder: where the checkpoint lies.
        source: what the user gave, for messages.

    Returns:
        The `Hyperparams`, or None where there is no such file, or it leaves the network as TF-Slim has it.

    Raises:
        hubkeras.Error: the file is not what its name says.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST} bytes")
        tokens = (match for match in _TOKENS.finditer(path.read_text("utf-8")) if match.lastgroup)
        return _hyperparams(_fields(_checked(tokens), None))
    except (OSError, ValueError, TypeError, AttributeError, StopIteration, RecursionError) as error:
        reason = first_line(error) if str(error).strip() else "it ends too early"
        raise Error(
            f"{source}: the {FILE} beside it is none of the Object Detection API ({reason}); fetch it again, or remove "
            "it where the detector had the defaults."
        ) from error


def _checked(tokens: Iterator[re.Match[str]]) -> Iterator[str]:
    for token in tokens:
        if token.lastgroup == "bad":
            raise ValueError(f"{token[0]!r} at character {token.start()}")
        yield token[0].strip()


def _fields(tokens: Iterator[str], end: str | None) -> dict[str, Any]:
    """The fields of a message until `end`, of repeated ones the last: messages as dicts, lists, and others as text."""
    fields: dict[str, Any] = {}
    while (name := next(tokens, None)) != end:
        if name is None:
            raise ValueError("it ends within a message")
        value = next(tokens)
        if value == ":":
            value = next(tokens)
        if value == "[":
            fields[name] = list(iter(lambda: next(tokens), "]"))
        elif value in _ENDS:
            fields[name] = _fields(tokens, _ENDS[value])
        else:
            fields[name] = value
    return fields


def _hyperparams(pipeline: dict[str, Any]) -> Hyperparams | None:
    detector = pipeline.get("model", {})
    extractor = detector.get("ssd", {}).get("feature_extractor", {})
    convolutions = extractor.get("conv_hyperparams", {})
    overrides = extractor.get("override_base_feature_extractor_hyperparams") in _TRUE
    if not overrides and not extractor.get("type", "").strip("\"'").startswith(_ALWAYS):
        return None
    norm = convolutions.get("batch_norm")
    if norm is None:
        return None
    # it was written as float32: 0.0010000000475 is 0.001
    epsilon, momentum = (float(f"{float(norm.get(name, value)):.7g}") for name, value in _DEFAULTS.items())
    if not (0 < epsilon < math.inf and 0 <= momentum <= 1):
        raise ValueError(f"batch_norm has epsilon {epsilon:g} and decay {momentum:g}")
    return Hyperparams(epsilon, momentum, convolutions.get("activation", "RELU"))
