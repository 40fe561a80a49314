"""`hubkeras inspect` and `hubkeras verify`: what something is, and whether it is what it should be."""

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

from hubkeras.commands.output import add_unsafe, parity_rows, print_json, print_table, progress, settings_in_words
from hubkeras.common.choices import Averages
from hubkeras.common.errors import Error
from hubkeras.common.graphs import operations_of
from hubkeras.common.guards import integrity, safety
from hubkeras.common.metadata import METADATA_FILE
from hubkeras.common.networks import NETWORKS, NetworkFacts
from hubkeras.common.places import model_folder
from hubkeras.consuming import signing

Rows = list[tuple[str, object]]


def add(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands; `command` as in `hubkeras.commands.parser`."""
    sub = command("inspect", run_inspect, "Show what a checkpoint or a SavedModel is: settings and every variable.")
    sub.add_argument("source", metavar="SOURCE|SAVED_MODEL")
    sub.add_argument("--json", action="store_true", help="print every fact as JSON")

    sub = command(
        "verify", run_verify, "Compare a model with its source or a frozen graph, or check its signature or hash."
    )
    sub.add_argument("directory", metavar="MODEL", help="a SavedModel, or a file for a runtime: .onnx, .tflite, .xml")
    against = sub.add_mutually_exclusive_group()
    against.add_argument("--source", metavar="SOURCE", help="recompute from this checkpoint")
    against.add_argument("--frozen-graph", metavar="PB", help="run this frozen graph of TF-Slim")
    signer = sub.add_mutually_exclusive_group()
    signer.add_argument("--public-key", metavar="KEY", help="check that the owner of this key (PEM) has signed MODEL")
    chain_help = "check that the owner of a certificate has, which these (PEM) lead to, the trusted one last"
    signer.add_argument("--certificate-chain", metavar="CERTIFICATE", nargs="+", default=[], help=chain_help)
    sub.add_argument("--signature", metavar="FILE", help="the signature; model.sig in MODEL by default")
    hash_help = "check that a SavedModel has this content hash (see inspect), or a file this SHA-256"
    sub.add_argument("--sha256", metavar="HEX", help=hash_help)
    sub.set_defaults(usage_error=sub.error)
    sub.add_argument("--weights", choices=list(Averages), help="with --source; by default as the SavedModel was made")
    minimum_help = "the frozen graph's images run from this to 1; by default -1 for an input called `input`, else 0"
    sub.add_argument("--input-minimum", type=int, choices=[-1, 0], help=minimum_help)
    sub.add_argument("--output", metavar="NAME", help="tensor of the frozen graph to compare")
    sub.add_argument("--json", action="store_true", help="print JSON")
    add_unsafe(sub)


def run_inspect(options: argparse.Namespace) -> None:
    """Runs `hubkeras inspect`."""
    facts = _inspected(options.source)
    if options.json:
        print_json(facts)
        return
    if facts["architecture"] is None:
        print_table([("kind", "SavedModel, not of a network that hubkeras knows")], "What it is")
        print_table(_safety(facts), "Is it safe")
        return
    network = NETWORKS[facts["architecture"]]
    groups = {
        "What it is": _identity(facts, network.title),
        "Where it came from": _origin(facts),
        "What it takes and gives": _interface(facts, network),
        "Is it whole": _state(facts),
        **({"Is it safe": _safety(facts)} if "safe" in facts else {}),
    }
    for title, rows in groups.items():
        print_table(rows, title)
    if facts["variables"]:
        variables = [(v["name"], _shape(v["shape"]), v["dtype"], v["use"]) for v in facts["variables"]]
        print_table(variables, columns=("variable", "shape", "dtype", "use"))


def _inspected(source: str) -> dict[str, Any]:
    """What `inspect` tells, and of every SavedModel, hubkeras' or not, its operations and whether they are harmless."""
    from hubkeras.converters.inspecting import inspect

    folder = model_folder(source)
    is_saved_model = (folder / "saved_model.pb").is_file()
    try:
        facts = inspect(source)
    except Error:
        if not is_saved_model or (folder / "assets" / METADATA_FILE).is_file():
            raise
        facts = {"kind": "saved_model", "architecture": None}
    if is_saved_model:
        found = safety.findings(folder)
        facts |= {"operations": list(operations_of(folder)), "safe": not found}
        facts["unsafe_operations"] = [finding._asdict() for finding in found]
    return facts


def _safety(facts: dict[str, Any]) -> Rows:
    verdict = "safe: it computes, and does nothing else" if facts["safe"] else "NOT SAFE: it could do more than compute"
    unsafe = [(finding["operation"], f"in {finding['function']}") for finding in facts["unsafe_operations"]]
    return [("verdict", verdict), *unsafe, ("operations", ", ".join(facts["operations"]))]


def _identity(facts: dict[str, Any], title: str) -> Rows:
    saved = facts["kind"] == "saved_model"
    kind = "SavedModel of hubkeras" if saved else "checkpoint"
    if facts.get("frozen"):
        kind += ", frozen: constants in place of variables, for inference alone"
    settings = facts.get("settings") or {name: facts.get(name) for name in ("depth_multiplier",) if name in facts}
    classes = facts.get("num_classes")
    rows: Rows = [
        ("kind", kind),
        ("network", ", ".join(filter(None, (title, settings_in_words(settings))))),
        ("head", f"classification, {classes} classes" if classes else "no head: feature vectors"),
    ]
    if "parameters" in facts:
        rows.append(("parameters", f"{facts['parameters']:,}"))
    if facts.get("auxiliary_head"):
        rows.append(("auxiliary head", "yes; it is for training and left out of what is made of it"))
    return rows


def _origin(facts: dict[str, Any]) -> Rows:
    if facts["kind"] != "saved_model":
        digests = [(f"SHA-256 of {file}", digest) for file, digest in facts["sha256"].items()]
        return [("read from", facts["source"]), *digests]
    rows: Rows = []
    if facts["handle"]:
        rows.append(("published as", facts["handle"]))
    provenance, made_of = facts["provenance"], "made of"
    while provenance:
        rows.append((made_of, provenance["checkpoint"]))
        rows += [(f"SHA-256 of {file}", digest) for file, digest in provenance["sha256"].items()]
        provenance, made_of = provenance.get("through"), "read through"
    if not facts["provenance"]:
        rows.append((made_of, "a network in a program, which did not say where its weights are from"))
    if facts["weights"]:
        rows.append(
            ("weights", "exponential moving averages" if facts["weights"] == "ema" else "as training left them")
        )
    rows.append(("written by", ", ".join(f"{name} {version}" for name, version in facts["versions"].items())))
    return rows


def _interface(facts: dict[str, Any], network: NetworkFacts) -> Rows:
    size = facts["image_size"]
    smallest = network.minimum_image_size
    sizes = "no other size" if facts.get("fixed_image_size") else f"others too, from {smallest} x {smallest}"
    classes = facts.get("num_classes")
    gives = f"logits, one for each of {classes} classes" if classes else "pooled features"
    if facts.get("num_features") and not classes:
        gives = f"{facts['num_features']} pooled features"
    return [("images", f"RGB in [0, 1], {size} x {size} pixels; {sizes}"), ("outputs", f"for each image {gives}")]


def _state(facts: dict[str, Any]) -> Rows:
    rows: Rows = []
    if "content_hash" in facts:
        rows += [("files", "as they were written, by their checksums"), ("content hash", facts["content_hash"])]
    uses: dict[str, int] = {}
    for variable in facts["variables"]:
        uses[variable["use"]] = uses.get(variable["use"], 0) + 1
    rows += [(f"tensors: {use}", count) for use, count in sorted(uses.items(), key=lambda item: -item[1])]
    if facts.get("leading_scope"):
        rows.append(("leading scope", facts["leading_scope"]))
    return rows


def _shape(sizes: list[int]) -> str:
    return " x ".join(map(str, sizes)) or "scalar"


def run_verify(options: argparse.Namespace) -> int:
    """Runs `hubkeras verify`."""
    signed = bool(options.public_key or options.certificate_chain)
    compared = bool(options.source or options.frozen_graph)
    if not (signed or compared or options.sha256):
        options.usage_error("give --source or --frozen-graph, --public-key or --certificate-chain, or --sha256")
    facts = {"model": options.directory}
    if options.sha256:
        integrity.check_sha256(options.directory, options.sha256)
        facts["sha256"] = options.sha256.lower()
    if signed:
        chain, key = options.certificate_chain, options.public_key
        signing.check_signature(options.directory, options.signature, public_key=key, certificate_chain=chain)
        facts["signature"] = "valid"
    if not compared:
        print_json(facts) if options.json else print_table(list(facts.items()))
        return 0
    return _compare(options)


def _compare(options: argparse.Namespace) -> int:
    from hubkeras.converters import verifying
    from hubkeras.exporting import verify_file
    from hubkeras.runtimes import files

    safe_mode = options.safe_mode
    if files.is_runtime_file(options.directory):
        if not options.source:
            raise Error("A file for a runtime is compared with its source; name that with --source.")
        with progress() as show:
            parity = verify_file(options.directory, options.source, options.weights, show, safe_mode)
    elif options.source:
        with progress() as show:
            parity = verifying.verify_source(options.directory, options.source, options.weights, show, safe_mode)
    else:
        parity = verifying.verify_frozen_graph(
            options.directory, options.frozen_graph, options.input_minimum, options.output, safe_mode
        )
    if options.json:
        print_json({"model": options.directory, **dataclasses.asdict(parity), "passed": parity.passed})
    else:
        print_table([("compared", f"{options.directory} with {parity.reference}"), *parity_rows(parity)])
    return 0 if parity.passed else 1
