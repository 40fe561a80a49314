"""The commands of tensorflow_hub's cache: `install`, `installed` and `uninstall`."""

import os
import pathlib

from hubkeras.commands.command import DRY_RUN, Group, Needs, Options, argument, command, flag
from hubkeras.commands.output import Output
from hubkeras.commands.wording import written_rows
from hubkeras.common import mistaken

CACHE_DIR = argument("--cache-dir", metavar="DIR", help="the cache folder (default: tensorflow_hub's, TFHUB_CACHE_DIR)")


@command(
    Group.SERVE,
    "Put a SavedModel into tensorflow_hub's cache under handles.",
    "hubkeras install build/digits --handle me/digits/1 --cache-dir build/cache",
    argument("source", metavar="SAVED_MODEL", help="a folder, or an archive of `hubkeras pack`"),
    argument("--handle", action="append", required=True, help="what code calls it by; may be repeated"),
    flag("--overwrite", "replace another model of this handle"),
    argument("--public-key", metavar="KEY", help="refuse what the owner of this key (PEM) has not signed"),
    CACHE_DIR,
    DRY_RUN,
    needs=Needs.NOTHING,
    first=lambda options: mistaken.refuse_no_model(options.source),
)
def install(options: Options, output: Output) -> None:
    from hubkeras.common.staging import rehearsed
    from hubkeras.consuming import cache
    from hubkeras.publishing import installing

    with rehearsed(options.dry_run) as planned:
        folders = installing.install(
            options.source, options.handle, options.cache_dir, options.overwrite, options.public_key
        )
    handles = list(map(cache.normalized, options.handle))
    modules = [{"handle": handle, "folder": str(folder)} for handle, folder in zip(handles, folders, strict=True)]
    rows = [tuple(module.values()) for module in modules]
    if options.dry_run:
        rows += written_rows(planned, dry_run=True)
        there = map(pathlib.Path, map(os.path.abspath, folders))
        rows += [("is there already", str(folder)) for folder in there if folder not in planned]
    facts = {"modules": modules, "dry_run": options.dry_run}
    output.result(facts, rows, None if options.dry_run else ("handle", "folder"), written=folders)
    if not options.dry_run:
        output.hint("hubkeras", "installed", *_cache(options))


@command(
    Group.SERVE,
    "List and check what is in tensorflow_hub's cache.",
    "hubkeras installed --cache-dir build/cache",
    CACHE_DIR,
    needs=Needs.NOTHING,
)
def installed(options: Options, output: Output) -> int:
    from hubkeras.common.guards import integrity
    from hubkeras.consuming import cache

    entries = cache.installed(options.cache_dir)
    modules = [
        {
            "handle": entry.handle,
            "folder": str(entry.folder),
            "state": entry.problem or ("complete" if entry.files else "complete, no hashes recorded"),
            "content_hash": integrity.content_hash(entry.files) if entry.files else None,
        }
        for entry in entries
    ]
    rows = [(module["handle"] or "no descriptor", module["state"], module["folder"]) for module in modules]
    columns, handles = ("handle", "state", "folder"), [entry.handle for entry in entries if entry.handle]
    output.result({"modules": modules}, rows, columns, written=handles)
    if not entries:
        output.line(f"Nothing is installed in {cache.cache_dir(options.cache_dir)}.")
    damaged = [entry.handle for entry in entries if entry.problem and entry.handle]
    if damaged:
        output.hint("hubkeras", "uninstall", *damaged, *_cache(options))
    elif entries:
        output.hint("hubkeras", "inspect", entries[0].folder)
    else:
        output.hint("hubkeras", "install", "SAVED_MODEL", "--handle", "HANDLE", *_cache(options))
    return 1 if any(entry.problem for entry in entries) else 0


@command(
    Group.SERVE,
    "Remove handles from tensorflow_hub's cache.",
    "hubkeras uninstall me/digits/1 --cache-dir build/cache",
    argument("handle", metavar="HANDLE", nargs="+", help="what `hubkeras installed` lists"),
    CACHE_DIR,
    flag("--dry-run", "tell what would be removed, and stop"),
    needs=Needs.NOTHING,
)
def uninstall(options: Options, output: Output) -> None:
    from hubkeras.consuming import cache

    handles = [cache.normalized(handle) for handle in options.handle]
    for handle in handles:
        cache.uninstall(handle, options.cache_dir, options.dry_run)
    outcome = "would be removed" if options.dry_run else "removed"
    facts = {"removed": [] if options.dry_run else handles, "dry_run": options.dry_run}
    rows = [(outcome, f"{handle}, {cache.folder_of(handle, options.cache_dir)}") for handle in handles]
    output.result(facts, rows, written=handles)
    output.hint("hubkeras", "installed", *_cache(options))


def _cache(options: Options) -> list[str]:
    return ["--cache-dir", options.cache_dir] if options.cache_dir else []
