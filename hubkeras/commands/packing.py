"""`hubkeras pack`: a model as an archive, or as the folder that a server or the Hugging Face Hub takes."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING

from hubkeras.commands.command import DRY_RUN, Group, Needs, Options, argument, command, flag, words
from hubkeras.commands.output import Output
from hubkeras.commands.wording import written_rows
from hubkeras.common import mistaken
from hubkeras.common.choices import Format, Layout, Task
from hubkeras.common.errors import Error
from hubkeras.common.preprocessing import WHOLE
from hubkeras.common.version import __version__

if TYPE_CHECKING:
    from hubkeras.publishing.packing import Model

_WEIGHTS = "model.safetensors"  # of transformers and timm
_OF_CARD = ("license", "evaluation", "example")  # options of the card on the Hugging Face Hub


@command(
    Group.PUBLISH,
    "Write a model as an archive, or as the folder that a server or the Hugging Face Hub takes.",
    "hubkeras pack build/digits build/digits.tar.gz",
    argument("model", metavar="MODEL", help="a SavedModel; with --layout also what else `convert` wrote"),
    argument(
        "out", metavar="OUT", help="the archive to write, .tar.gz, for any web server and `hub.load`; or the folder"
    ),
    argument("--layout", choices=words(Layout), help="write a folder for this software, named as the model shall be"),
    argument("--repository", metavar="OWNER/NAME", help="hugging-face: where it will lie on the Hub"),
    argument(
        "--license", metavar="ID", help="hugging-face: the Hub's identifier (apache-2.0 for Google's own weights)"
    ),
    argument("--evaluation", metavar="REPORT", help="hugging-face: a report of evaluate or train, for the card"),
    argument("--example", metavar="IMAGE", help="hugging-face: an image for the card"),
    flag("--overwrite", "replace OUT, where `hubkeras pack` wrote it"),
    DRY_RUN,
    needs=Needs.NOTHING,
    first=lambda options: mistaken.refuse_no_model(options.model),
)
def pack(options: Options, output: Output) -> None:
    if options.layout:
        return _pack_folder(options, output)
    for name in ("repository", *_OF_CARD):
        if getattr(options, name) is not None:
            raise Error(f"--{name} is for a folder; add --layout hugging-face.", repair="--layout hugging-face")
    return _pack_archive(options, output)


def _pack_archive(options: Options, output: Output) -> None:
    from hubkeras.common import archives, places, staging
    from hubkeras.common.guards import integrity

    if os.path.isfile(options.model):
        raise Error(
            f"{options.model} is a file, and an archive is of a SavedModel, which `hubkeras export SOURCE OUT_DIR` "
            "writes; pack that, or name a --layout."
        )
    folder = places.model_folder(options.model)
    with staging.rehearsed(options.dry_run):
        digest = archives.pack(folder, options.out, options.overwrite)
    content = integrity.content_hash(integrity.hashes(folder))
    note = places.debris_note(places.files_below(folder))
    notes = [("note", note)] if note else []
    facts = {"path": options.out, "sha256": digest, "content_hash": content, "notes": [note for _, note in notes]}
    facts["dry_run"] = options.dry_run
    rows = [*written_rows([options.out], options.dry_run), ("SHA-256", digest), ("content hash", content), *notes]
    output.result(facts, rows, written=[options.out])
    if not options.dry_run:
        output.hint("hubkeras", "install", options.out, "--handle", "HANDLE")


def _pack_folder(options: Options, output: Output) -> None:
    from hubkeras.common.quiet import quietly
    from hubkeras.common.staging import rehearsed
    from hubkeras.publishing import packing
    from hubkeras.publishing.hugging_face import CardOptions, hugging_face
    from hubkeras.publishing.repositories import REPOSITORIES

    layout, name = Layout(options.layout), packing.name_of(options.out)
    chosen = {name: getattr(options, name) for name in _OF_CARD}
    for option, value in chosen.items():
        if value is not None and layout != Layout.HUGGING_FACE:
            raise Error(f"--{option} is of the card, which --layout {Layout.HUGGING_FACE} alone has.")
    if (layout == Layout.HUGGING_FACE) != (options.repository is not None):
        raise Error(f"--layout {Layout.HUGGING_FACE} needs --repository OWNER/NAME, and no other layout takes it.")
    card = CardOptions(options.repository, **chosen) if options.repository else None
    with quietly():
        model = _open(options.model)
    contents = hugging_face(model, card) if card else REPOSITORIES[layout](model, name)
    inputs = [options.model, options.example, options.evaluation]
    with rehearsed(options.dry_run):
        files = packing.write(contents, options.out, layout, options.overwrite, inputs)
    facts = {"path": options.out, "layout": str(layout), "files": list(map(str, files)), "dry_run": options.dry_run}
    output.result(facts, written_rows(files, options.dry_run), written=[options.out])
    if card and not options.dry_run:
        output.hint("hf", "upload", card.repository, options.out)


def _open(path: str) -> Model:
    """A model with its metadata; nothing of it runs."""
    from hubkeras.common import addresses, places
    from hubkeras.common.guards import integrity
    from hubkeras.common.labels import written_labels
    from hubkeras.common.marks import RECORD
    from hubkeras.common.metadata import LABELS_FILE, read_metadata
    from hubkeras.publishing.documentation import read_parity
    from hubkeras.publishing.packing import Model

    path = addresses.local(path)
    if not os.path.lexists(path):
        raise Error(f"{path} does not exist; expected a SavedModel or an .onnx, .tflite or .xml file.")
    if path.endswith(".keras") or os.path.isfile(os.path.join(path, _WEIGHTS)):
        return _of_library(path)
    if not os.path.isdir(path):
        return _file(path)
    folder = places.model_folder(path)
    parts = {name: folder / name for name in integrity.checked_hashes(folder)}
    beside = (integrity.CHECKSUMS_FILE, integrity.SIGNATURE_FILE, RECORD)
    parts |= {name: folder / name for name in beside if (folder / name).is_file()}
    labels = folder / "assets" / LABELS_FILE
    names = written_labels(labels.read_bytes()) if labels.is_file() else []
    return Model(path, Format.SAVED_MODEL, parts, read_metadata(folder), names, read_parity(folder))


def _of_library(path: str) -> Model:
    """What `convert --to hugging-face`, `timm` or `keras-applications` wrote, for the library that it is of."""
    from hubkeras.common import marks
    from hubkeras.common.guards.zips import open_zip
    from hubkeras.common.metadata import Metadata
    from hubkeras.converters.inspecting import inspect
    from hubkeras.publishing.packing import Model

    place = pathlib.Path(path)
    if why := marks.foreign(place):
        raise Error(f"{path} {why}; `hubkeras convert {path} OUT --to ...` makes one that it wrote.")
    seen = inspect(path)
    assert seen.network is not None
    settings = {name: value for name, value in seen.settings.items() if name != "num_classes"}
    metadata = Metadata(
        architecture=seen.network.architecture,
        task=Task.CLASSIFICATION if seen.num_classes else Task.FEATURE_VECTOR,
        depth_multiplier=seen.settings.get("depth_multiplier", 1.0),
        default_image_size=seen.image_size,
        minimum_image_size=seen.network.minimum_image_size,
        fixed_image_size=False,
        num_features=0,  # the card leaves it out
        num_classes=seen.num_classes,
        settings=settings,
        source={"checkpoint": place.name, "sha256": {file.name: file.sha256 for file in seen.files}},
        versions={"hubkeras": __version__},
        preprocessing=seen.preprocessing or WHOLE,
    )
    if place.is_file():  # Keras' own loader of the Hub wants the members
        with open_zip(place) as archive:
            members = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
        return Model(path, Format.KERAS_APPLICATIONS, members, metadata, seen.labels or ())
    parts = {name: place / name for name in sorted(os.listdir(place))}
    format = Format.TIMM if seen.network.architecture == "inception_resnet_v2" else Format.HUGGING_FACE
    return Model(path, format, parts, metadata, seen.labels or ())


def _file(path: str) -> Model:
    """A file for a runtime, which need not be installed: metadata and labels are in the file."""
    from hubkeras.publishing.packing import Model
    from hubkeras.runtimes import files, reading

    engine, content = files.engine_of(path), reading.read(path)
    metadata, labels = content.description.metadata, content.description.labels
    if metadata is None or metadata.interface is None or content.custom:
        raise Error(f"{path} does not say what it takes and gives; it is no file that hubkeras convert wrote.")
    parts = {f"model{file.suffix}": file for file in engine.files(path)}
    return Model(path, Format(engine.suffix), parts, metadata, labels or ())
