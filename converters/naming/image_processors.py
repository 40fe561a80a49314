"""How other libraries say that a network's images are cut, and `Preprocessing`: Hugging Face's and timm's files."""

from collections.abc import Mapping
from typing import Any

from hubkeras.common.preprocessing import Preprocessing, is_preprocessing

PREPROCESSOR = "preprocessor_config.json"
_OURS = "hubkeras_preprocessing"  # what a size in whole pixels has rounded; `transformers` keeps keys that it knows not
# of `MobileNetV2ImageProcessor`, where a file leaves a key out
_HUGGING_FACE: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "resample": 2,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
}
_TIMM: dict[str, Any] = {"crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic"}  # of `timm.data`
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # of Pillow

Told = tuple[Preprocessing | None, str]  # None where hubkeras cannot cut so; and a sentence for the report


def to_hugging_face(image_size: int, preprocessing: Preprocessing) -> dict[str, Any]:
    """The keys of a `preprocessor_config.json` for images of this height and width in pixels."""
    larger = round(image_size / preprocessing.central_fraction)
    squash = preprocessing.resize == "squash"
    return {
        "do_resize": True,
        "size": {"height": larger, "width": larger} if squash else {"shortest_edge": larger},
        "resample": 2,
        "do_center_crop": True,
        "crop_size": {"height": image_size, "width": image_size},
        _OURS: {"resize": preprocessing.resize, "central_fraction": preprocessing.central_fraction},
    }


def of_hugging_face(config: Mapping[str, Any]) -> Told:
    """What a `preprocessor_config.json` says.

    An image is resized, its shorter side to `size` or both to it, and of that the middle, `crop_size`, is taken.
    """
    facts = {**_HUGGING_FACE, **config}
    resampling = _RESAMPLING.get(facts["resample"]) if isinstance(facts["resample"], int) else None
    size, keeps = _side(facts["size"], "shortest_edge")
    crop = _side(facts["crop_size"])[0] if facts["do_center_crop"] is True else None
    if facts["do_resize"] is not True or size is None:
        return _unlike(PREPROCESSOR, "does not resize images to squares")
    if crop is None and facts["do_center_crop"] is True:
        return _unlike(PREPROCESSOR, "cuts out what is not square")
    if keeps and crop is None:
        return _unlike(PREPROCESSOR, "resizes images without cutting out squares")
    kept: Any = config.get(_OURS)
    if is_preprocessing(kept) and crop is not None:
        ours = Preprocessing(**kept)
        written = to_hugging_face(crop, ours)
        if all(facts[key] == written[key] for key in _HUGGING_FACE):  # and nobody has changed them since
            return _told(ours, PREPROCESSOR, resampling)
    return _cut("crop" if keeps else "squash", 1.0 if crop is None else crop / size, PREPROCESSOR, resampling)


def image_size_of_hugging_face(config: Mapping[str, Any]) -> int | None:
    """Height and width in pixels of what a `preprocessor_config.json` makes, None where it does not tell."""
    if config.get("do_center_crop", True) is True and "crop_size" in config:
        return _side(config["crop_size"])[0]
    return None


def to_timm(preprocessing: Preprocessing) -> dict[str, Any]:
    """The keys of a `pretrained_cfg`."""
    mode = "squash" if preprocessing.resize == "squash" else "center"
    return {"crop_pct": preprocessing.central_fraction, "crop_mode": mode, "interpolation": "bilinear"}


def of_timm(config: Mapping[str, Any]) -> Told | None:
    """What the `pretrained_cfg` of a `config.json` says, None where there is none."""
    pretrained = config.get("pretrained_cfg")
    if not isinstance(pretrained, dict):
        return None
    where = "pretrained_cfg of config.json"
    facts = {**_TIMM, **pretrained}
    modes = {"center": "crop", "squash": "squash"}
    if facts["crop_mode"] not in modes:
        return _unlike(where, f"has the crop mode {facts['crop_mode']!r}")
    return _cut(modes[facts["crop_mode"]], facts["crop_pct"], where, facts["interpolation"])


def _side(size: Any, other: str | None = None) -> tuple[int | None, bool]:
    """The side of a square, None where it is none, and whether only `other`, the shorter side, is told."""
    if isinstance(size, dict) and other in size:
        size, keeps = size[other], True
    elif isinstance(size, dict):
        size, keeps = size.get("height") if size.get("height") == size.get("width") else None, False
    else:
        keeps = other is not None  # a number, as older files have it
    return (size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None), keeps


def _cut(resize: str, fraction: Any, where: str, resampling: Any) -> Told:
    told = {"resize": resize, "central_fraction": fraction}
    if not is_preprocessing(told):
        return _unlike(where, f"takes {fraction!r} of a side")
    return _told(Preprocessing(resize, fraction), where, resampling)


def _told(preprocessing: Preprocessing, where: str, resampling: Any) -> Told:
    words = f"Images are cut as {where} says: {preprocessing}"
    if resampling != "bilinear":
        words += f" (bilinearly; the file says {resampling or 'another way'})"
    return preprocessing, f"{words}."


def _unlike(where: str, why: str) -> Told:
    return None, f"{where} {why}, which hubkeras does not; how images are cut was not taken from it."
