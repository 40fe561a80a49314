"""Where the weights of a network are in what training with PyTorch saved, and which of them are averages.

Sources: `utils/checkpoint_saver.py` and `utils/model_ema.py` of timm (`state_dict`, `state_dict_ema`), `references/
classification/train.py` of torchvision (`model`, `model_ema`, whose names are those of `torch.optim.swa_utils.
AveragedModel`: `n_averaged`, `module.*`), `WeightAveraging` of Lightning (averages in `state_dict`, the others in
`current_model_state`), and `ema_pytorch` (`online_model.*`, `ema_model.*`).
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from hubkeras.converters.naming import hugging_face, timm
from hubkeras.converters.naming.renaming import NamingError

Path = tuple[str, ...]  # keys of dicts within dicts, the last of them the name of a tensor

# parts of names that wrappers of PyTorch add: DataParallel and AveragedModel, compile, FSDP, checkpointing
_WRAPPERS = frozenset(["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
# `model_ema`, `ema_model`, `ModelEma`, `swa_model`, but not `schema`
_AVERAGED = re.compile(r"(?<![a-zA-Z])(?i:ema|swa|averaged?|shadow)(?![a-zA-Z])|(?<=[a-z])(EMA|Ema|SWA)(?![a-z])")
_AVERAGES_COUNTER = "n_averaged"
_LIGHTNING = ("current_model_state", "state_dict")  # the others, and beside them the averages
_OPTIMIZER = re.compile(r"optim", re.IGNORECASE)
_MOST_NAMED = 3


class Weights(NamedTuple):
    """The weights of a network in a file of PyTorch.

    Attributes:
        raw, averaged: `{name: path in the file}` of the weights as training left them and of their moving averages; the
            latter are empty where there are none, the former where there is nothing else.
        others: `{path: kind}` of what is no weight of the network.
        notes: sentences that the user should read.
    """

    raw: dict[str, Path]
    averaged: dict[str, Path]
    others: dict[Path, str]
    notes: tuple[str, ...]


def weights_of(paths: Collection[Path]) -> Weights:
    """The weights of a network among the tensors of a file.

    Raises:
        NamingError: there are several networks, and nothing tells which is meant.
    """
    groups = _groups(paths)
    averaged = [key for key in groups if _is_averaged(key, groups, paths)]
    raw = [key for key in groups if key not in averaged]
    for keys in (raw, averaged):
        if len(keys) > 1:
            named = ", ".join(_title(key) for key in sorted(keys)[:_MOST_NAMED])
            raise NamingError(f"it holds {len(keys)} networks ({named}); save the state dict of the one that is meant")
    taken = {path for names in groups.values() for path in names.values()}
    others = {path: _kind(path) for path in paths if path not in taken}
    if not groups:  # of no network that has a marker; whose it is, its names tell
        names = _unwrapped({path[-1]: path for path in paths if not _OPTIMIZER.search(path[0])})
        return Weights(names, {}, {path: kind for path, kind in others.items() if path not in names.values()}, ())
    return Weights(
        groups[raw[0]] if raw else {},
        groups[averaged[0]] if averaged else {},
        others,
        tuple(_notes(raw, averaged, others)),
    )


_Key = tuple[Path, str]  # the dict that a state dict is, and what its names start with


def _groups(paths: Collection[Path]) -> dict[_Key, dict[str, Path]]:
    """`{(dict, prefix): {name below the prefix, without wrappers: path}}` of the networks in a file."""
    dicts: dict[Path, list[str]] = {}
    for path in paths:
        dicts.setdefault(path[:-1], []).append(path[-1])
    groups = {}
    for place, names in dicts.items():
        prefixes = sorted({p for name in names if (p := _prefix(name)) is not None}, key=len, reverse=True)
        for prefix in prefixes:
            own = {n: (*place, n) for n in names if next((p for p in prefixes if n.startswith(p)), None) == prefix}
            groups[place, prefix] = _unwrapped({name.removeprefix(prefix): path for name, path in own.items()})
    return groups


_MARKERS = (hugging_face.BASE + hugging_face.MARKER, hugging_face.MARKER, timm.MARKERS[0])


def _prefix(name: str) -> str | None:
    """What stands before a name that every network of its kind has, None for other names."""
    for marker in _MARKERS:
        parts, wanted = name.split("."), marker.split(".")
        # wrappers may stand between the parts
        while parts and wanted and (parts[-1] == wanted[-1] or parts[-1] in _WRAPPERS):
            wanted = wanted[:-1] if parts[-1] == wanted[-1] else wanted
            parts = parts[:-1]
        if not wanted:
            return "".join(f"{part}." for part in parts)
    return None


def _unwrapped(names: Mapping[str, Path]) -> dict[str, Path]:
    """The names without the parts that wrappers add, and without `model.` where all start with it."""
    plain = {".".join(p for p in name.split(".") if p not in _WRAPPERS): path for name, path in names.items()}
    if len(plain) < len(names):
        raise NamingError("it holds tensors under the same name with and without `module.`; save one state dict")
    if plain and all(name.startswith("model.") for name in plain):
        plain = {name.removeprefix("model."): path for name, path in plain.items()}
    return plain


def _is_averaged(key: _Key, groups: Mapping[_Key, object], paths: Collection[Path]) -> bool:
    place, prefix = key
    raw, averages = _LIGHTNING
    if place == (averages,) and any(other == (raw,) for other, _ in groups):
        return True
    counted = (*place, _AVERAGES_COUNTER) in paths
    return counted or any(_AVERAGED.search(part) for part in (*place, *prefix.split(".")))


def _title(key: _Key) -> str:
    place, prefix = key
    return repr(".".join((*place, prefix)).strip(".") or "the top")


def _kind(path: Path) -> str:
    if any(_OPTIMIZER.search(part) for part in path[:-1]):
        return "optimizer"
    if path[-1] == _AVERAGES_COUNTER:
        return "counter of averages"
    return f"beside the network: {path[0]}" if len(path) > 1 else "beside the network"


def _notes(raw: Sequence[_Key], averaged: Sequence[_Key], others: Mapping[Path, str]) -> Iterator[str]:
    if averaged and raw:
        yield f"The file holds moving averages of the weights in {_title(averaged[0])}, raw ones in {_title(raw[0])}."
    elif averaged:
        yield f"The file holds moving averages of the weights only, in {_title(averaged[0])}."
    places = {place for place, _ in (*raw, *averaged)}
    beside = sorted(path[-1] for path, kind in others.items() if kind.startswith("beside") and path[:-1] in places)
    if beside:
        named = ", ".join(beside[:_MOST_NAMED]) + (", ..." if len(beside) > _MOST_NAMED else "")
        yield f"Beside the network the file holds {len(beside)} other tensors, which are left out: {named}."
