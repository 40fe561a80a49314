"""The commands of publishing and of the cache: parses, calls, prints."""

import argparse
from collections.abc import Callable

from hubkeras.commands.output import print_json, print_table
from hubkeras.common import archives, places
from hubkeras.common.guards import integrity
from hubkeras.consuming import cache, signing
from hubkeras.publishing import catalog, documentation, installing

ASSET_PATH = (
    "https address of the archive, ending in .tar.gz, for the page's metadata; the default, internal, is what "
    "tfhub.dev has for pages of models that are not published"
)
CACHE_DIR = "the cache folder; TFHUB_CACHE_DIR by default"


def add(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands; `command` as in `hubkeras.commands.parser`."""
    sub = command("catalog", run_catalog, "List the modules that Google published of the three networks.", False)
    sub.add_argument("pattern", metavar="PATTERN", nargs="?", default="*", help="part of the handle; * and ? as usual")
    sub.add_argument("--json", action="store_true", help="print JSON")

    sub = command("pack", run_pack, "Write a SavedModel as an archive for any web server and `hub.load`.", False)
    sub.add_argument("directory", metavar="SAVED_MODEL")
    sub.add_argument("archive", metavar="OUT.tar.gz", help="the archive to write")
    sub.add_argument("--overwrite", action="store_true", help="replace the archive, where `hubkeras pack` wrote it")

    sub = command("document", run_document, "Write the page and the model card of a SavedModel anew.", False)
    sub.add_argument("directory", metavar="SAVED_MODEL")
    sub.add_argument("--asset-path", metavar="URL", default="internal", help=ASSET_PATH)

    sub = command("sign", run_sign, "Sign a SavedModel, in the format of OpenSSF Model Signing.", False)
    sub.add_argument("directory", metavar="SAVED_MODEL")
    sub.add_argument("--private-key", metavar="KEY", required=True, help="elliptic curve key, a PEM file")
    sub.add_argument("--signature", metavar="FILE", help="the file to write; model.sig in the folder by default")
    sub.add_argument("--overwrite", action="store_true", help="replace a signature that exists")

    sub = command("install", run_install, "Put a SavedModel into tensorflow_hub's cache under handles.", False)
    sub.add_argument("source", metavar="SAVED_MODEL", help="a folder, or an archive of `hubkeras pack`")
    sub.add_argument("--handle", action="append", required=True, help="what code calls it by; may be repeated")
    sub.add_argument("--overwrite", action="store_true", help="replace another model of this handle")
    sub.add_argument("--public-key", metavar="KEY", help="refuse what the owner of this key (PEM) has not signed")
    sub.add_argument("--cache-dir", metavar="DIR", help=CACHE_DIR)

    sub = command("installed", run_installed, "List and check what is in tensorflow_hub's cache.", False)
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument("--cache-dir", metavar="DIR", help=CACHE_DIR)

    sub = command("uninstall", run_uninstall, "Remove handles from tensorflow_hub's cache.", False)
    sub.add_argument("handle", metavar="HANDLE", nargs="+")
    sub.add_argument("--cache-dir", metavar="DIR", help=CACHE_DIR)


def run_catalog(options: argparse.Namespace) -> int:
    modules = catalog.search(options.pattern)
    if options.json:
        print_json({"modules": [module.facts() for module in modules]})
        return 0
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
    print_table(rows, columns=columns)
    return 0 if modules else 1


def run_pack(options: argparse.Namespace) -> None:
    folder = places.model_folder(options.directory)
    digest = archives.pack(folder, options.archive, options.overwrite)
    content = integrity.content_hash(integrity.hashes(folder))
    note = places.debris_note(places.files_below(folder))
    rows = [("written", options.archive), ("SHA-256", digest), ("content hash", content)]
    print_table([*rows, *([("note", note)] if note else [])])


def run_sign(options: argparse.Namespace) -> None:
    path = signing.sign(options.directory, options.private_key, options.signature, options.overwrite)
    print_table([("written", path)])


def run_document(options: argparse.Namespace) -> None:
    for path in documentation.write(options.directory, asset_path=options.asset_path):
        print_table([("written", path)])


def run_install(options: argparse.Namespace) -> None:
    folders = installing.install(
        options.source, options.handle, options.cache_dir, options.overwrite, options.public_key
    )
    handles = map(cache.normalized, options.handle)
    print_table(list(zip(handles, folders, strict=True)), columns=("handle", "folder"))


def run_installed(options: argparse.Namespace) -> int:
    entries = cache.installed(options.cache_dir)
    facts = [
        {
            "handle": entry.handle,
            "folder": str(entry.folder),
            "state": entry.problem or ("complete" if entry.files else "complete, no hashes recorded"),
            "content_hash": integrity.content_hash(entry.files) if entry.files else None,
        }
        for entry in entries
    ]
    if options.json:
        print_json({"modules": facts})
    else:
        rows = [(fact["handle"] or "no descriptor", fact["state"], fact["folder"]) for fact in facts]
        print_table(rows, columns=("handle", "state", "folder"))
    return 1 if any(entry.problem for entry in entries) else 0


def run_uninstall(options: argparse.Namespace) -> None:
    for handle in options.handle:
        cache.uninstall(handle, options.cache_dir)
        print_table([("removed", cache.normalized(handle))])
