"""`hubkeras info`: the installation, for bug reports."""

from __future__ import annotations

import os
import pathlib
import platform
import re
import sys
from typing import Any

from hubkeras.commands.command import Group, Needs, Options, command
from hubkeras.commands.output import Output
from hubkeras.common.errors import Error
from hubkeras.common.extras import installation
from hubkeras.common.processor import description
from hubkeras.common.version import __version__, installed_version, runtime_versions

_LIBRARIES = (
    *("keras", "numpy", "protobuf", "h5py", "pillow", "rich", "pyarrow", "apache-beam", "matplotlib"),
    *("tf-keras", "tensorflow-hub", "torch", "safetensors", "huggingface-hub", "kagglehub", "model-signing"),
)
# that install what runs a model, by the runtime's name
_EXTRAS = {"ONNX Runtime": "onnx", "OpenVINO": "openvino", "LiteRT": "litert"}
# names of instructions as they are known: the flags of Linux
_INSTRUCTIONS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16",),
    "AMX": ("amx_tile",),
    "dot product of ARM": ("asimddp",),
}
# of the environment, what changes results, speed or places; all else may be somebody's secret
_VARIABLES = re.compile(
    "HUBKERAS_[A-Z_]+|TFHUB_CACHE_DIR|KERAS_(BACKEND|HOME)|TF_(USE_LEGACY_KERAS|ENABLE_ONEDNN_OPTS|XLA_FLAGS)|"
    "TF_(NUM_INTRAOP|NUM_INTEROP)_THREADS|ONEDNN_[A-Z_]+|OMP_NUM_THREADS|CUDA_VISIBLE_DEVICES|SOURCE_DATE_EPOCH|LC_ALL|LANG"
)


@command(
    Group.CHECK,
    "Show versions, runtimes, processor and cache of this installation, for bug reports.",
    "hubkeras info --json",
    needs=Needs.NOTHING,
)
def info(options: Options, output: Output) -> None:
    runtimes = runtime_versions()
    libraries = {name: installed_version(name) for name in _LIBRARIES}
    processor, cache = processor_facts(), _cache()
    environment = {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.fullmatch(name)}
    facts: dict[str, Any] = {
        "hubkeras": __version__,
        "folder": str(pathlib.Path(__file__).parents[1]),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor,
        "runtimes": runtimes,
        "libraries": libraries,
        "cache": cache,
        "environment": environment,
    }
    instructions = processor["instructions"]
    shown = "instructions not known" if instructions is None else ", ".join(instructions) or "none of AVX2 and later"
    rows = [
        ("hubkeras", f"{__version__}, in {facts['folder']}"),
        ("Python", f"{facts['python']}, {sys.executable}"),
        ("system", facts["system"]),
        ("processor", f"{processor['name']}, {processor['cores']} cores; {shown}"),
        *((name, version or _missing(_EXTRAS.get(name))) for name, version in runtimes.items()),
        ("libraries", ", ".join(f"{name} {version}" for name, version in libraries.items() if version)),
        ("not installed", ", ".join(name for name, version in libraries.items() if not version) or "none"),
        ("cache", cache["problem"] or f"{cache['folder']}, {cache['files']} files, {cache['bytes'] / 1e6:,.1f} MB"),
        *environment.items(),
    ]
    output.result(facts, rows)


def _missing(extra: str | None) -> str:
    return f"not installed; {installation(f'hubkeras[{extra}]')}" if extra else "not installed"


def processor_facts() -> dict[str, Any]:
    """The processor's name, the cores that this process may use, and the instructions that matter, None if unknown."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = description()
    if text is None:
        return {"name": platform.processor() or platform.machine(), "cores": cores, "instructions": None}
    match = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    words = set(text.split())
    found = [name for name, flags in _INSTRUCTIONS.items() if words.intersection(flags)]
    return {"name": match[1] if match else platform.machine(), "cores": cores, "instructions": found}


def _cache() -> dict[str, Any]:
    """The cache folder of models, and how much is in it."""
    from hubkeras.consuming.cache import cache_dir

    try:
        folder = cache_dir()
    except Error as error:
        return {"folder": None, "files": 0, "bytes": 0, "problem": str(error)}
    paths = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    sizes = [os.lstat(path).st_size for path in paths if os.path.lexists(path)]
    return {"folder": str(folder), "files": len(sizes), "bytes": sum(sizes), "problem": None}
