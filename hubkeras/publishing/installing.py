"""Installing SavedModels under handles of the catalogue and others, for code that names them."""

import os
import pathlib
from collections.abc import Sequence

from hubkeras.common.metadata import read_metadata
from hubkeras.consuming import cache
from hubkeras.consuming.handles import opened
from hubkeras.consuming.signing import check_signature
from hubkeras.publishing import catalog


def install(
    source: str | os.PathLike[str],
    handles: Sequence[str],
    directory: cache.Directory = None,
    overwrite: bool = False,
    public_key: str | os.PathLike[str] | None = None,
) -> list[pathlib.Path]:
    """Puts a SavedModel into tensorflow_hub's cache under handles, see `hubkeras.consuming.cache.install`.

    Args:
        source: folder or archive of a SavedModel, which may lie below other folders in it.
        handles: any URLs that code gives to `hub.load` or `hub.KerasLayer`; `https://tfhub.dev/` may be left out.
        directory: the cache folder; by default tensorflow_hub's.
        overwrite: whether to replace another model, as one that tensorflow_hub downloaded.
        public_key: PEM file of a key whose owner must have signed the model, see `hubkeras.consuming.signing`.

    Returns:
        The folders, one a handle.

    Raises:
        hubkeras.Error: a handle is Google's name of another network, or is taken by another model, or the cache
            cannot be written, or the model is not signed as it must be. Other entries are as they were.
    """
    handles = [cache.normalized(handle) for handle in handles]
    with opened(source) as folder:
        if public_key is not None:
            check_signature(folder, public_key=public_key)
        if any(catalog.find(handle) for handle in handles):
            metadata = read_metadata(folder)
            for handle in handles:
                catalog.check_metadata(handle, metadata)
        return [cache.install(folder, handle, directory, overwrite) for handle in handles]
