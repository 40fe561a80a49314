"""`hubkeras verify`: whether a model is what it should be."""

import dataclasses

from hubkeras.commands.command import DIGITS, UNSAFE, Group, Options, argument, command, one_of, words
from hubkeras.commands.output import Output
from hubkeras.commands.wording import parity_rows
from hubkeras.common import mistaken
from hubkeras.common.choices import Averages
from hubkeras.common.errors import Error


def _before(options: Options) -> None:
    """Ends the process with a usage where there is nothing to do; refuses what cannot be a model or its source."""
    what = ("source", "against", "frozen_graph", "public_key", "certificate_chain", "sha256")
    if not any(getattr(options, name) for name in what):
        options.parser.error(
            "nothing to verify MODEL by; give what it was made of: --source CHECKPOINT, --against ORIGINAL or "
            "--frozen-graph PB; or who signed it: --public-key, --certificate-chain; or its hash: --sha256. "
            "`hubkeras inspect MODEL` checks its own checksums"
        )
    if (options.images or options.input_range) and not options.against:
        options.parser.error("--images and --input-range are for --against")
    mistaken.refuse_model(options.directory)
    if options.source:
        mistaken.refuse_source(options.source)


@command(
    Group.CHECK,
    "Compare a model with its source or the original, or check its signature or hash.",
    f"hubkeras verify build/digits --source {DIGITS}",
    argument("directory", metavar="MODEL", help="a SavedModel, or a file for a runtime: .onnx, .tflite, .xml"),
    one_of(
        argument("--source", metavar="SOURCE", help="recompute from this checkpoint"),
        argument(
            "--against",
            metavar="ORIGINAL",
            help="run the model that MODEL was made of, by its library: .keras, .h5, .onnx, .pb, a SavedModel, or a "
            "folder of Hugging Face or timm",
        ),
        argument("--frozen-graph", metavar="PB", help="run this frozen graph of TF-Slim"),
    ),
    one_of(
        argument("--public-key", metavar="KEY", help="check that the owner of this key (PEM) has signed MODEL"),
        argument(
            "--certificate-chain",
            metavar="CERTIFICATE",
            nargs="+",
            default=[],
            help="check that the owner of a certificate has, which these (PEM) lead to, the trusted one last",
        ),
    ),
    argument("--signature", metavar="FILE", help="the signature (default: model.sig in MODEL)"),
    argument(
        "--sha256",
        metavar="HEX",
        help="check that a SavedModel has this content hash (see inspect), or a file this SHA-256",
    ),
    argument("--images", metavar="PATH", nargs="+", help="with --against: images and folders (default: made ones)"),
    argument(
        "--input-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="with --against: what black and white are in images that ORIGINAL takes (default: as it agrees best)",
    ),
    argument("--weights", choices=words(Averages), help="with --source (default: as the SavedModel was made)"),
    argument(
        "--input-minimum",
        type=int,
        choices=[-1, 0],
        help="the frozen graph's images run from this to 1 (default: -1 for an input called `input`, else 0)",
    ),
    argument("--output", metavar="NAME", help="tensor of the frozen graph to compare (default: its only output)"),
    UNSAFE,
    first=_before,
)
def verify(options: Options, output: Output) -> int | None:
    from hubkeras.common.guards import integrity
    from hubkeras.consuming import signing

    facts = {"model": options.directory}
    if options.sha256:
        integrity.check_sha256(options.directory, options.sha256)
        facts["sha256"] = options.sha256.lower()
    if options.public_key or options.certificate_chain:
        chain, key = options.certificate_chain, options.public_key
        signing.check_signature(options.directory, options.signature, public_key=key, certificate_chain=chain)
        facts["signature"] = "valid"
    if options.source or options.against or options.frozen_graph:
        return _compare(options, output)
    output.result(facts, facts.items())
    output.hint("hubkeras", "inspect", options.directory)
    return 0


def _compare(options: Options, output: Output) -> int:
    from hubkeras import verifying
    from hubkeras.runtimes import files

    if options.source:
        with output.status() as show:
            parity = verifying.verify(options.directory, options.source, options.weights, show, options.safe_mode)
    elif options.against:
        given = {"images": options.images, "input_range": options.input_range, "safe_mode": options.safe_mode}
        with output.status() as show:
            parity = verifying.verify_against(options.directory, options.against, progress=show, **given)
    elif files.is_runtime_file(options.directory):
        raise Error("A file for a runtime is compared with its source; name that with --source.")
    else:
        parity = verifying.verify_frozen_graph(
            options.directory, options.frozen_graph, options.input_minimum, options.output, options.safe_mode
        )
    rows = [("compared", f"{options.directory} with {parity.reference}"), *parity_rows(parity)]
    facts = {"model": options.directory, **dataclasses.asdict(parity), "passed": parity.passed}
    output.result(facts, rows)
    output.hint("hubkeras", "benchmark" if parity.passed else "inspect", options.directory)
    return 0 if parity.passed else 1
