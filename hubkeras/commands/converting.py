"""`hubkeras export` and `hubkeras convert`: from a source of weights to a SavedModel or another form."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hubkeras.commands.output import parity_rows, print_json, print_table, progress, report_rows
from hubkeras.common.choices import Averages, Task
from hubkeras.common.errors import Error
from hubkeras.common.forms import FORMS, named_forms

if TYPE_CHECKING:
    from hubkeras.exporting import Written

SOURCE = "a Slim checkpoint in any form, a SavedModel, or another source of the weights"
WIDTHS = {"float32": 4, "float16": 2, "8 bits": 1}  # bytes of a weight
SERVING = ("fixed_size", "endpoints", "probabilities", "uint8", "float16", "int8")  # options of files for runtimes


def add(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands; `command` as in `hubkeras.commands.parser`."""
    sub = command("export", run_export, "Convert a checkpoint to a SavedModel, and check it.")
    sub.add_argument("source", metavar="SOURCE", help=SOURCE)
    sub.add_argument("directory", metavar="OUT_DIR", help="the SavedModel to write")
    _add_choices(sub)
    sub.add_argument("--handle", help="published name; one of `hubkeras catalog` gives task and image size")
    sub.add_argument("--labels", metavar="FILE", help="class names, one a line")
    sub.add_argument(
        "--endpoints", nargs="+", metavar="NAME", help="feature maps of a backbone: stride_8, layer_7, ..."
    )
    sub.add_argument("--output-stride", type=int, metavar="8|16|32", help="dilate convolutions beyond this stride")
    sub.add_argument("--fixed-size", action="store_true", help="accept images of this size only")
    sub.add_argument("--frozen", action="store_true", help="constants instead of variables: faster, for inference only")
    sub.add_argument("--no-verify", action="store_true", help="write without loading and comparing what was written")
    sub.add_argument("--overwrite", action="store_true", help="replace OUT_DIR, where hubkeras wrote it or it is empty")

    sub = command("convert", run_convert, "Convert a checkpoint to a weights file or another form, by its ending.")
    sub.add_argument("source", metavar="SOURCE", help=SOURCE)
    endings = ", ".join(form for form in FORMS if form.startswith("."))
    output = sub.add_mutually_exclusive_group(required=True)
    output.add_argument("path", nargs="?", metavar="OUT", help=f"what to write, ending in {endings}; or with --to")
    output.add_argument("--to-slim", metavar="OUT.ckpt", help="the same as OUT.ckpt --to slim")
    sub.add_argument("--to", choices=named_forms(), help="the form of OUT, where its ending does not tell it")
    _add_choices(sub)
    sub.add_argument("--overwrite", action="store_true", help="replace OUT, where hubkeras wrote it or it is empty")
    serving = sub.add_argument_group("for runtimes (.onnx, .tflite, .xml)")
    serving.add_argument("--labels", metavar="FILE", help="class names, one a line")
    serving.add_argument("--fixed-size", action="store_true", help="accept images of this size only")
    serving.add_argument("--endpoints", nargs="+", metavar="NAME", help="end points that are outputs too")
    serving.add_argument("--probabilities", action="store_true", help="give the softmax of the logits")
    serving.add_argument("--uint8", action="store_true", help="take raw pixels, 0 to 255, in place of 0.0 to 1.0")
    precision = serving.add_mutually_exclusive_group()
    precision.add_argument("--float16", action="store_true", help="keep weights in half precision")
    images_help = "8-bit integers, calibrated with 100 to 500 images: a folder, a tar archive or an .npz"
    precision.add_argument("--int8", metavar="IMAGES", help=images_help)
    sub.add_argument("--json", action="store_true", help="print JSON")


def _add_choices(sub: argparse.ArgumentParser) -> None:
    """What both commands choose from a source."""
    sub.add_argument("--task", choices=list(Task), help="by default as the source is")
    weights_help = "take the moving averages of the weights where there are any (ema, the default), or never (raw)"
    sub.add_argument("--weights", choices=list(Averages), default="ema", help=weights_help)
    sub.add_argument("--image-size", type=int, metavar="N", help="height and width that the network was trained with")


def run_export(options: argparse.Namespace) -> None:
    """Runs `hubkeras export`."""
    from hubkeras.exporting import export

    with progress() as show:
        written = export(
            options.source,
            options.directory,
            options.task,
            labels=options.labels,
            image_size=options.image_size,
            fixed_size=options.fixed_size,
            overwrite=options.overwrite,
            frozen=options.frozen,
            weights=options.weights,
            handle=options.handle,
            endpoints=options.endpoints,
            output_stride=options.output_stride,
            verify=not options.no_verify,
            progress=show,
        )
    metadata = written.metadata
    size = metadata.default_image_size
    rows = report_rows(metadata.architecture, metadata.settings, written.report)
    rows.append(("written", f"{written.path}, {metadata.task}, {size} x {size} pixels"))
    print_table([*rows, *parity_rows(written.parity)])


def run_convert(options: argparse.Namespace) -> None:
    """Runs `hubkeras convert`."""
    from hubkeras.consuming.listing import in_words
    from hubkeras.exporting import convert

    path, to = (options.path, options.to) if options.to_slim is None else (options.to_slim, "slim")
    if options.to_slim is not None and options.to not in (None, "slim"):
        raise Error(f"--to-slim writes a TF-Slim checkpoint, not {options.to}; give OUT and --to {options.to}.")
    with progress() as show:
        written = convert(
            options.source,
            path,
            options.task,
            to=to,
            image_size=options.image_size,
            weights=options.weights,
            overwrite=options.overwrite,
            progress=show,
            labels=options.labels,
            **{name: getattr(options, name) for name in SERVING},
        )
    if options.json:
        print_json(_facts(written))
        return
    rows = report_rows(written.metadata.architecture, written.metadata.settings, written.report)
    told = written.report.notes if written.report else []
    rows.extend(("note", note) for note in written.notes if note not in told)
    rows.extend(("written", str(file)) for file in written.files)
    if facts := written.calibration:
        counts = f"{facts['images']} images, {facts['held_back']} more to check"
        rows.append(("calibrated", f"{counts}; {facts['preprocessing']}; left out: {in_words(facts['left_out'])}"))
    if written.parameters is not None:
        size = sum(file.stat().st_size for file in written.files) / 1e6
        weights = ", ".join(f"{written.parameters * width / 1e6:.2f} in {name}" for name, width in WIDTHS.items())
        rows.append(("size", f"{size:.2f} MB; the weights are {weights}"))
    print_table([*rows, *parity_rows(written.parity)])


def _facts(written: Written) -> dict[str, Any]:
    """What was done, for JSON."""
    return {
        "path": str(written.path),
        "files": [str(file) for file in written.files],
        "metadata": written.metadata.to_dict(),
        "report": written.report and dataclasses.asdict(written.report),
        "notes": list(written.notes),
        "parity": written.parity and dataclasses.asdict(written.parity),
        "parameters": written.parameters,
        "calibration": written.calibration or None,
    }
