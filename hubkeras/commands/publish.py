"""The commands of publishing: `catalog`, `document` and `sign`."""

from hubkeras.commands.command import DRY_RUN, Group, Needs, Options, argument, command, flag
from hubkeras.commands.output import Output
from hubkeras.commands.wording import written_rows
from hubkeras.common import mistaken
from hubkeras.common.errors import did_you_mean
from hubkeras.common.networks import NETWORKS

ASSET_PATH = (
    "https address of the archive, ending in .tar.gz, for the page's metadata; internal is what tfhub.dev has for "
    "pages of models that are not published"
)


@command(
    Group.PUBLISH,
    "List the modules that Google published of the three networks.",
    "hubkeras catalog mobilenet_v2_035",
    argument("pattern", metavar="PATTERN", nargs="?", default="*", help="part of the handle; * and ? as usual"),
    needs=Needs.NOTHING,
)
def catalog(options: Options, output: Output) -> int:
    from hubkeras.publishing.catalog import search

    modules = search(options.pattern)
    columns = ("handle", "versions", "size", "outputs", "parameters", "multiply-adds", "top-1 %", "top-5 %")
    rows = [
        (
            module.handle,
            ", ".join(map(str, module.versions)),
            module.image_size,
            module.classes or module.features,
            f"{module.parameters / 1e6:.2f} M",
            f"{module.multiply_adds / 1e6:.0f} M",
            module.top_1,
            module.top_5,
        )
        for module in modules
    ]
    facts = {"modules": [module.facts() for module in modules]}
    output.result(facts, rows, columns, written=[module.handle for module in modules])
    for module in modules[:1]:
        output.hint("hubkeras", "export", module.archive, "OUT_DIR", "--handle", module.handle)
    if not modules:
        which = f"has {options.pattern!r} in its handle; hubkeras knows those of {', '.join(NETWORKS)}"
        output.error(f"No module {which}{did_you_mean(options.pattern, NETWORKS) or '.'}", repair="hubkeras catalog")
    return 0 if modules else 1


@command(
    Group.PUBLISH,
    "Write the page and the model card of a SavedModel anew.",
    "hubkeras document build/digits",
    argument("directory", metavar="SAVED_MODEL", help="a folder"),
    argument("--asset-path", metavar="URL", default="internal", help=ASSET_PATH),
    needs=Needs.NOTHING,
    first=lambda options: mistaken.refuse_no_folder(options.directory),
)
def document(options: Options, output: Output) -> None:
    from hubkeras.publishing import documentation

    paths = documentation.write(options.directory, asset_path=options.asset_path)
    _tell_written(output, paths)
    output.hint("hubkeras", "pack", options.directory, f"{options.directory.rstrip('/')}.tar.gz")


@command(
    Group.PUBLISH,
    "Sign a SavedModel, in the format of OpenSSF Model Signing.",
    "hubkeras sign build/digits --private-key key.pem",
    argument("directory", metavar="SAVED_MODEL", help="a folder"),
    argument("--private-key", metavar="KEY", required=True, help="elliptic curve key, a PEM file"),
    argument("--signature", metavar="FILE", help="the file to write (default: model.sig in the folder)"),
    flag("--overwrite", "replace a signature that exists"),
    DRY_RUN,
    needs=Needs.NOTHING,
    first=lambda options: mistaken.refuse_no_folder(options.directory),
)
def sign(options: Options, output: Output) -> None:
    from hubkeras.common.staging import rehearsed
    from hubkeras.consuming import signing

    with rehearsed(options.dry_run):
        path = signing.sign(options.directory, options.private_key, options.signature, options.overwrite)
    _tell_written(output, [path], options.dry_run)
    if options.dry_run:
        return
    signature = ["--signature", options.signature] if options.signature else []
    output.hint("hubkeras", "verify", options.directory, "--public-key", "KEY", *signature)


def _tell_written(output: Output, paths: list, dry_run: bool = False) -> None:
    facts = {"files": list(map(str, paths)), "dry_run": dry_run}
    output.result(facts, written_rows(paths, dry_run), written=paths)
