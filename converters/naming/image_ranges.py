"""What a base sees of images, in the files of Hugging Face and timm, and as `InputRange`."""

from collections.abc import Mapping
from typing import Any

from hubkeras.common.input_range import InputRange
from hubkeras.converters.naming.image_processors import PREPROCESSOR
from hubkeras.converters.naming.renaming import NamingError

# of `MobileNetV2ImageProcessor`, where a file leaves a key out
_HUGGING_FACE: dict[str, Any] = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
_KEYS = ("rescale_factor", "image_mean", "image_std")
_LARGEST_PIXEL = 255


def of_hugging_face(processor: Mapping[str, Any]) -> InputRange | None:
    """What the base sees by a `preprocessor_config.json`, None where that says nothing of it.

    Pixels from 0 to 255 are multiplied with `rescale_factor` (and lowered by 1 with `rescale_offset`), then
    `image_mean` is subtracted and the rest divided by `image_std`; either is left out where the file says so.

    Raises:
        NamingError: it is no range.
    """
    if processor.keys().isdisjoint(_HUGGING_FACE):
        return None
    facts = {**_HUGGING_FACE, **processor}
    try:
        white = _exact(_LARGEST_PIXEL * float(facts["rescale_factor"] if facts["do_rescale"] else 1.0))
        black = -1.0 if facts["do_rescale"] and facts.get("rescale_offset") else 0.0
        mean, std = (facts["image_mean"], facts["image_std"]) if facts["do_normalize"] else (0.0, 1.0)
        base = InputRange.of(mean=mean, std=std)
        scale = [factor * white for factor in base.scale]
        offset = [number + factor * black for factor, number in zip(base.scale, base.offset, strict=True)]
        return InputRange((scale[0], scale[1], scale[2]), (offset[0], offset[1], offset[2]))
    except (TypeError, ValueError) as error:
        told = ", ".join(f"{key}={facts[key]!r}" for key in _KEYS)
        raise NamingError(f"{PREPROCESSOR} has {told}, which are no range of images") from error


def to_hugging_face(seen: InputRange) -> dict[str, Any]:
    """The keys of a `preprocessor_config.json` for a base that sees this."""
    return {
        "do_rescale": True,
        "rescale_factor": 1 / _LARGEST_PIXEL,
        "do_normalize": True,
        "image_mean": list(seen.mean),
        "image_std": list(seen.std),
    }


def of_timm(config: Mapping[str, Any]) -> InputRange | None:
    """What the base sees by the `pretrained_cfg` of a `config.json`, None where that says nothing of it.

    Raises:
        NamingError: it is no range.
    """
    pretrained = config.get("pretrained_cfg")
    if not isinstance(pretrained, Mapping) or not {"mean", "std"} <= pretrained.keys():
        return None
    try:
        return InputRange.of(mean=pretrained["mean"], std=pretrained["std"])
    except (TypeError, ValueError) as error:
        told = f"mean={pretrained['mean']!r}, std={pretrained['std']!r}"
        raise NamingError(f"pretrained_cfg of config.json has {told}, which are no range of images") from error


def to_timm(seen: InputRange) -> dict[str, Any]:
    """The keys of a `pretrained_cfg` for a base that sees this."""
    return {"mean": list(seen.mean), "std": list(seen.std)}


def _exact(white: float) -> float:
    """The number without the rounding of `1 / 255`."""
    return float(round(white)) if abs(white - round(white)) < 1e-9 * abs(white) else white
