"""`hubkeras export` and `hubkeras convert`: from a source of weights to a SavedModel or another form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hubkeras.commands.command import (
    DIGITS,
    DRY_RUN,
    RUNTIMES,
    Group,
    Needs,
    Options,
    argument,
    command,
    flag,
    one_of,
    titled,
    words,
)
from hubkeras.commands.output import Output
from hubkeras.commands.wording import parity_rows, report_rows, written_rows
from hubkeras.common import endings, mistaken, staging
from hubkeras.common.choices import Averages, Format, Task

if TYPE_CHECKING:
    from hubkeras.exporting import Export

SOURCE = "a Slim checkpoint in any form, a SavedModel, or another source of the weights"
WIDTHS = {"float32": 4, "float16": 2, "8 bits": 1}  # bytes of a weight
SERVING = (
    "fixed_size",
    "endpoints",
    "probabilities",
    "uint8",
    "float16",
    "bfloat16",
    "int8",
)  # options of files for runtimes


CHOICES = (
    argument("--task", choices=words(Task), help="what the model is for (default: as the source is)"),
    argument(
        "--weights",
        choices=words(Averages),
        help="ema: the moving averages of the weights where there are any; raw: never "
        "(default: as the source says that it was made, else ema)",
    ),
    argument("--image-size", type=int, metavar="N", help="height and width of its images (default: the source's)"),
    argument(
        "--input-range",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="the pixels that it was trained on, where SOURCE does not say it: 0 1, 0 255 (default: -1 1)",
    ),
    argument(
        "--input-mean",
        type=float,
        nargs=3,
        metavar=("R", "G", "B"),
        help="with --input-std, in place of a range: what images in [0, 1] were normalized with",
    ),
    argument("--input-std", type=float, nargs=3, metavar=("R", "G", "B"), help="see --input-mean"),
)
IMAGES_OF_BASE = ("input_range", "input_mean", "input_std")
LABELS = argument("--labels", metavar="FILE", help="class names, one a line (default: the source's)")
FIXED_SIZE = flag("--fixed-size", "accept images of this size only")
ENDPOINTS = "end points by stride or by Slim's name, stride_8, layer_7"
IMAGES = "8-bit integers, calibrated with 100 to 500 images: a folder, a tar archive or an .npz"
ENDINGS = ", ".join(Format.endings())


def _before_export(options: Options) -> None:
    endings.folder_to_write(options.directory, options.overwrite, [options.source, options.labels])
    mistaken.refuse_source(options.source)


@command(
    Group.CONVERT,
    "Convert a checkpoint to a SavedModel, and check it.",
    f"hubkeras export {DIGITS} build/digits",
    argument("source", metavar="SOURCE", help=SOURCE),
    argument("directory", metavar="OUT_DIR", help="the SavedModel to write"),
    *CHOICES,
    argument("--handle", help="published name; one of `hubkeras catalog` gives task and image size"),
    LABELS,
    argument("--endpoints", nargs="+", metavar="NAME", help=f"{ENDPOINTS}, which a backbone returns"),
    argument("--output-stride", type=int, metavar="8|16|32", help="dilate convolutions beyond this stride"),
    FIXED_SIZE,
    flag("--frozen", "constants instead of variables: faster, for inference only"),
    flag("--no-verify", "write without loading and comparing what was written"),
    flag("--overwrite", "replace OUT_DIR, where hubkeras wrote it or it is empty"),
    DRY_RUN,
    first=_before_export,
)
def export(options: Options, output: Output) -> None:
    from hubkeras import exporting

    with output.status() as show:
        written = exporting.export(
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
            **{name: getattr(options, name) for name in IMAGES_OF_BASE},
            verify=not options.no_verify,
            dry_run=options.dry_run,
            progress=show,
        )
    metadata = written.metadata
    size = metadata.default_image_size
    rows = report_rows(metadata.architecture, metadata.settings, written.report)
    rows += written_rows(written.files, written.dry_run, f", {metadata.task}, {size} x {size} pixels")
    output.result(_facts(written), [*rows, *parity_rows(written.parity)], written=written.files)
    if written.dry_run:
        return
    if options.no_verify:
        output.hint("hubkeras", "verify", written.path, "--source", options.source)
    else:
        output.hint("hubkeras", "inspect", written.path)


def _before_convert(options: Options) -> None:
    if endings.format_of(options.path, options.to) != Format.SLIM:  # whose files have other names than OUT
        staging.refuse_existing(options.path, options.overwrite, [options.source, options.labels, options.int8])
    mistaken.refuse_source(options.source)


def _needs(options: Options) -> Needs:
    """Files for runtimes are written, and checked, without Keras and TensorFlow."""
    return Needs.NOTHING if options.to is None and options.path.endswith(RUNTIMES) else Needs.KERAS


@command(
    Group.CONVERT,
    "Convert a checkpoint to a weights file or another form, by its ending.",
    f"hubkeras convert {DIGITS} build/digits.weights.h5",
    argument("source", metavar="SOURCE", help=SOURCE),
    argument("path", metavar="OUT", help=f"what to write, ending in {ENDINGS}; or with --to"),
    argument(
        "--to",
        choices=[form.value for form in Format.named()],
        help="the form of OUT, where its ending does not tell it",
    ),
    *CHOICES,
    flag("--overwrite", "replace OUT, where hubkeras wrote it or it is empty"),
    DRY_RUN,
    titled(
        "for runtimes (.onnx, .tflite, .xml)",
        LABELS,
        FIXED_SIZE,
        argument("--endpoints", nargs="+", metavar="NAME", help=f"{ENDPOINTS}, which become outputs too"),
        flag("--probabilities", "give the softmax of the logits"),
        flag("--uint8", "take raw pixels, 0 to 255, in place of 0.0 to 1.0"),
        one_of(
            flag("--float16", "keep weights in half precision"),
            flag("--bfloat16", "compute in bfloat16 where the processor does (.xml)"),
            argument("--int8", metavar="IMAGES", help=IMAGES),
        ),
    ),
    needs=_needs,
    first=_before_convert,
)
def convert(options: Options, output: Output) -> None:
    from hubkeras import exporting

    with output.status() as show:
        written = exporting.convert(
            options.source,
            options.path,
            options.task,
            to=options.to,
            image_size=options.image_size,
            weights=options.weights,
            overwrite=options.overwrite,
            progress=show,
            labels=options.labels,
            dry_run=options.dry_run,
            **{name: getattr(options, name) for name in (*IMAGES_OF_BASE, *SERVING)},
        )
    rows = report_rows(written.metadata.architecture, written.metadata.settings, written.report)
    rows += [*_rows_of_files(written), *parity_rows(written.parity)]
    output.result(_facts(written), rows, written=written.files)
    if not written.dry_run:
        output.hint("hubkeras", "inspect" if written.parameters is None else "benchmark", written.path)


def _rows_of_files(written: Export) -> list[tuple[str, str]]:
    from hubkeras.common.counts import in_words

    told = written.report.notes if written.report else []
    rows = [("note", note) for note in written.notes if note not in told]
    rows += written_rows(written.files, written.dry_run)
    if facts := written.calibration:
        counts = f"{facts['images']} images, {facts['held_back']} more to check"
        rows.append(("calibrated", f"{counts}; {facts['preprocessing']}; left out: {in_words(facts['left_out'])}"))
    if written.speedups:
        rows.append(("speed", speed_in_words(written.speedups)))
    if written.parameters is not None:
        size = sum(file.stat().st_size for file in written.files if not written.dry_run) / 1e6
        whole = "" if written.dry_run else f"{size:.2f} MB; "
        weights = ", ".join(f"{written.parameters * width / 1e6:.2f} MB in {name}" for name, width in WIDTHS.items())
        rows.append(("size", f"{whole}the weights are {weights}"))
    return rows


def speed_in_words(speedups: Mapping[str, float]) -> str:
    """What 8 bits gain on this machine."""
    from hubkeras.runtimes.measuring import multiplies_bytes

    times = ", ".join(f"{ratio:.1f} times for {batch} image{'s' * (batch != '1')}" for batch, ratio in speedups.items())
    if max(speedups.values()) >= 1:
        return f"the speed of float32 {times}, on this machine"
    reason = ": this processor has no products of bytes (VNNI)" if multiplies_bytes() is False else ""
    return f"slower than float32 on this machine, its speed {times}{reason}; take --float16 where size counts"


def _facts(written: Export) -> dict[str, Any]:
    """The record of what was written, for JSON."""
    return {
        "path": str(written.path),
        "dry_run": written.dry_run,
        "files": [str(file) for file in written.files],
        "metadata": written.metadata.to_dict(),
        "report": written.report and dataclasses.asdict(written.report),
        "notes": list(written.notes),
        "parity": written.parity and dataclasses.asdict(written.parity),
        "parameters": written.parameters,
        "calibration": written.calibration or None,
        "speedups": written.speedups or None,
    }
