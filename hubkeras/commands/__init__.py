"""The command `hubkeras`: parses, calls, prints."""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile

from hubkeras import __version__
from hubkeras.commands import benchmarking
from hubkeras.commands import publishing as publishing_commands
from hubkeras.common.errors import Error
from hubkeras.common.files import refuse_existing


def parser():
    """The command's arguments."""
    main = argparse.ArgumentParser(prog="hubkeras", description="TF-Slim's ImageNet networks in today's Keras.")
    main.add_argument("--version", action="version", version=__version__)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, help_text, tensorflow=True):
        sub = commands.add_parser(name, help=help_text, description=help_text)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error")
        sub.set_defaults(run=run, tensorflow=tensorflow)
        return sub

    weights = {"choices": ["ema", "raw"], "default": "ema"}
    weights_help = "take the moving averages of the weights where there are any (ema), or never (raw)"

    sub = command("export", run_export, "Convert a Slim checkpoint to a SavedModel, and check it.")
    sub.add_argument("source", metavar="SOURCE", help="a Slim checkpoint in any form")
    sub.add_argument("directory", metavar="OUT_DIR", help="the SavedModel to write")
    sub.add_argument("--task", choices=["classification", "feature_vector"])
    sub.add_argument("--handle", help="published name; one of `hubkeras catalog` gives task and image size")
    sub.add_argument("--weights", **weights, help=weights_help)
    sub.add_argument("--labels", metavar="FILE", help="class names, one a line")
    sub.add_argument("--image-size", type=int, metavar="N", help="height and width that the network was trained with")
    sub.add_argument("--fixed-size", action="store_true", help="accept images of this size only")
    sub.add_argument("--frozen", action="store_true", help="constants instead of variables: faster, for inference only")
    sub.add_argument("--overwrite", action="store_true", help="replace OUT_DIR if it exists")

    publishing_commands.add(command)
    benchmarking.add(command)

    sub = command("convert", run_convert, "Convert a Slim checkpoint to a Keras weights file, or back.")
    sub.add_argument(
        "source", metavar="SOURCE", help="a Slim checkpoint in any form, or a SavedModel, fine-tuned or not"
    )
    output = sub.add_mutually_exclusive_group(required=True)
    output.add_argument("path", nargs="?", metavar="OUT.weights.h5", help="the Keras weights file to write")
    output.add_argument("--to-slim", metavar="OUT.ckpt", help="write a TF-Slim checkpoint (V2) of this prefix instead")
    sub.add_argument("--weights", **weights, help=weights_help)
    sub.add_argument("--overwrite", action="store_true", help="replace the file if it exists")

    sub = command("inspect", run_inspect, "Show what a checkpoint or a SavedModel is: settings and every variable.")
    sub.add_argument("source", metavar="SOURCE|SAVED_MODEL")
    sub.add_argument("--json", action="store_true", help="print JSON")

    sub = command("verify", run_verify, "Compare a SavedModel with its checkpoint or a frozen graph.")
    sub.add_argument("directory", metavar="SAVED_MODEL")
    against = sub.add_mutually_exclusive_group(required=True)
    against.add_argument("--source", metavar="SOURCE", help="recompute from this checkpoint")
    against.add_argument("--frozen-graph", metavar="PB", help="run this frozen graph of TF-Slim")
    sub.add_argument("--weights", choices=["ema", "raw"], help="with --source; by default as the SavedModel was made")
    minimum_help = "the frozen graph's images run from this to 1; by default -1 for an input called `input`, else 0"
    sub.add_argument("--input-minimum", type=int, choices=[-1, 0], help=minimum_help)
    sub.add_argument("--output", metavar="NAME", help="tensor of the frozen graph to compare")
    return main


def main(arguments=None):
    """Runs the command and returns its exit status: 0, or 1 after an error; argparse exits with 2 for wrong usage."""
    options = parser().parse_args(arguments)
    # a terminated run cleans up like an interrupted one
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if options.tensorflow:
            _import_quietly()
        return options.run(options) or 0
    except Error as error:
        if options.debug:
            raise
        print(f"hubkeras: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hubkeras: interrupted; nothing was written.", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug:
            raise
        print(f"hubkeras: {type(error).__name__}: {' '.join(str(error).split())} (--debug shows more)", file=sys.stderr)
        return 1


def _import_quietly():
    """Imports TensorFlow without the lines that it writes to standard error, which is for our messages."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile() as log:
        original = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
        except BaseException:
            log.seek(0)
            os.write(original, log.read())
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)


@contextlib.contextmanager
def _progress():
    """Yields a function of (done, total, what) that shows a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        tasks = {}

        def show(done, total, what):
            if what not in tasks:
                for task in tasks.values():
                    bars.update(task, completed=bars.tasks[task].total)
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield show
        for task in tasks.values():
            bars.update(task, completed=bars.tasks[task].total)


def print_table(rows, title=None, columns=None):
    """Prints rows of text as a table; (name, value) rows without a header by default."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, show_header=bool(columns), title_justify="left")
    for column in columns or ("", ""):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    # wide enough for any variable's name where the output is a file
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _report_rows(architecture, settings, report):
    settings = ", ".join(f"{name} {value}" for name, value in settings.items())
    rows = [
        ("network", f"{architecture}, {settings}"),
        ("read", f"{report.read} tensors from {report.source}"),
        ("used", f"{report.used} variables, {report.shadows} of them exponential moving averages"),
        ("ignored", ", ".join(f"{count} {kind}" for kind, count in sorted(report.ignored.items())) or "nothing"),
    ]
    return rows + [("note", note) for note in report.notes]


def _parity_rows(parity):
    rows = []
    if parity.weights_compared:
        equal = parity.weights_compared - parity.weights_different
        rows.append(("weights", f"{equal} of {parity.weights_compared} bit-identical to {parity.reference}"))
    verdict = "within" if parity.error <= parity.bound else "ABOVE"
    rows.append(
        ("parity", f"{parity.output}: relative error {parity.error:.1e}, {verdict} the bound of {parity.bound:.0e}")
    )
    return rows


def run_export(options):
    from hubkeras.exporting import export

    with _progress() as progress:
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
            progress=progress,
        )
    metadata = written.metadata
    size = metadata.default_image_size
    rows = [("written", f"{written.path}, {metadata.task}, {size} x {size} pixels")]
    print_table(
        _report_rows(metadata.architecture, metadata.settings, written.report) + rows + _parity_rows(written.parity)
    )


def run_convert(options):
    from hubkeras.converters.slim_writer import convert_to_slim, files_of
    from hubkeras.converters.weights import convert

    path, write = (options.to_slim, convert_to_slim) if options.to_slim else (options.path, convert)
    written = files_of(path) if options.to_slim else [path]
    for file in written:
        refuse_existing(file, options.overwrite)
    with _progress() as progress:
        network, _, report = write(options.source, path, options.weights, options.overwrite, progress)
    print_table(
        [*_report_rows(network.architecture, network.settings(), report), *(("written", file) for file in written)]
    )


def run_inspect(options):
    from hubkeras.converters.inspecting import inspect

    facts = inspect(options.source)
    if options.json:
        print(json.dumps(facts, indent=2))
        return
    variables = facts.pop("variables")
    print_table([(name, value) for name, value in facts.items()])
    columns = ("variable", "shape", "dtype", "use")
    print_table([(v["name"], v["shape"], v["dtype"], v["use"]) for v in variables], columns=columns)


def run_verify(options):
    from hubkeras.converters import verifying

    if options.source:
        with _progress() as progress:
            parity = verifying.verify_source(options.directory, options.source, options.weights, progress)
    else:
        parity = verifying.verify_frozen_graph(
            options.directory, options.frozen_graph, options.input_minimum, options.output
        )
    print_table([("compared", f"{options.directory} with {parity.reference}"), *_parity_rows(parity)])
    return 0 if parity.passed else 1
