"""SavedModels that a `.keras` archive carries for layers such as `hubkeras.KerasLayer`, looked at as data."""

import pathlib

from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.guards import safety
from hubkeras.common.guards.safety import Finding
from hubkeras.common.guards.zips import open_zip
from hubkeras.converters.sources.keras_layer_tree import is_archive, is_keras

_GRAPHS = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")


def carried_findings(path: pathlib.Path) -> tuple[Finding, ...]:
    """What the SavedModels in a file could do beside computing where Keras loads them; empty for other files.

    Args:
        path: of any file. Of an archive of Keras the graphs alone are unpacked, and nothing of them runs.
    """
    if not (is_keras(path) and is_archive(path)):
        return ()
    found: list[Finding] = []
    with TemporaryFolder() as folder, open_zip(path) as archive:
        members = [name for name in archive.namelist() if name.rpartition("/")[2] in _GRAPHS]
        for name in members:
            archive.extract(name, folder)
        for place in sorted({name.rpartition("/")[0] for name in members}):
            try:
                each = safety.findings(pathlib.Path(folder, place))
            except Error:
                each = [Finding("a graph that cannot be read", "its folder")]
            found += [Finding(operation, f"{function} of the SavedModel in {place}") for operation, function in each]
    return tuple(found)
