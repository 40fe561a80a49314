"""SavedModels that a `.keras` archive carries for layers such as `hubkeras.KerasLayer`, looked at as data."""

import pathlib
import zipfile
import zlib
from collections.abc import Iterator

from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.guards import safety
from hubkeras.common.guards.safety import Finding
from hubkeras.common.guards.zips import open_zip
from hubkeras.converters.sources.keras_layer_tree import is_archive, is_keras

_MOST = 16  # SavedModels, of up to a second each
_GRAPHS = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")


def carried_findings(path: pathlib.Path) -> tuple[Finding, ...]:
    """What the SavedModels in a file could do beside computing where Keras loads them; empty for other files.

    Args:
        path: of any file. Of an archive of Keras the graphs alone are unpacked, and nothing of them runs.
    """
    if not (is_keras(path) and is_archive(path)):
        return ()
    with open_zip(path) as archive:
        members = [name for name in archive.namelist() if name.rpartition("/")[2] in _GRAPHS]
        places = sorted({name.rpartition("/")[0] for name in members})
        if len(places) > _MOST:
            return (Finding(f"{len(places)} SavedModels", f"the file; more than {_MOST} are not looked at"),)
        return tuple(finding for place in places for finding in _findings(archive, place, members))


def _findings(archive: zipfile.ZipFile, place: str, members: list[str]) -> Iterator[Finding]:
    """Those of the SavedModel in a folder of an archive."""
    try:
        with TemporaryFolder() as folder:
            for name in members:
                if name.rpartition("/")[0] == place:
                    archive.extract(name, folder)
            found = safety.findings(pathlib.Path(folder, place))
    except (Error, OSError, zipfile.BadZipFile, zlib.error):
        found = [Finding("a graph that cannot be read", "its folder")]
    for operation, function in found:
        yield Finding(operation, f"{function} of the SavedModel in {place}")
