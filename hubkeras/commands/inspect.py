"""`hubkeras inspect`: what something is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hubkeras.commands.command import Group, Options, argument, command
from hubkeras.commands.output import Output
from hubkeras.commands.wording import settings_in_words
from hubkeras.common.errors import Error

if TYPE_CHECKING:
    from hubkeras.common.networks import NetworkFacts

Rows = list[tuple[str, object]]


@command(
    Group.CHECK,
    "Show what a checkpoint or a SavedModel is: settings and every variable.",
    "hubkeras inspect build/digits",
    argument("source", metavar="SOURCE|SAVED_MODEL"),
)
def inspect(options: Options, output: Output) -> None:
    from hubkeras.common.networks import NETWORKS

    facts = _inspected(options.source)
    if facts["architecture"] is None:
        output.table([("kind", "SavedModel, not of a network that hubkeras knows")], "What it is")
        output.table(_safety(facts), "Is it safe")
        output.result(facts)
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
        output.table(rows, title)
    variables = [(v["name"], _shape(v["shape"]), v["dtype"], v["use"]) for v in facts["variables"]]
    output.result(facts, variables, columns=("variable", "shape", "dtype", "use"))
    if facts["kind"] == "saved_model":
        output.hint("hubkeras", "benchmark", options.source)
    else:
        output.hint("hubkeras", "export", options.source, "OUT_DIR")


def _inspected(source: str) -> dict[str, Any]:
    """The facts of a source; of every SavedModel, hubkeras' or not, its operations too, and whether they are safe."""
    from hubkeras.common.graphs import operations_of
    from hubkeras.common.guards import safety
    from hubkeras.common.metadata import METADATA_FILE
    from hubkeras.common.places import model_folder
    from hubkeras.converters import inspecting

    folder = model_folder(source)
    is_saved_model = (folder / "saved_model.pb").is_file()
    try:
        facts = inspecting.inspect(source)
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
