"""The one door to a SavedModel: whoever runs one, a layer, a command or a converter, loads it here.

A SavedModel is a program. Its files are compared with their checksums, its signature with a key where one is given, and
its operations with the list of `hubkeras.common.guards.harmless`, before TensorFlow sees any of it.
"""

import contextlib
import os
import pathlib
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hubkeras.common.errors import Error, first_line
from hubkeras.common.files import remove_tree, without_wildcards
from hubkeras.common.guards import integrity, safety
from hubkeras.common.guards.permissions import check_readable
from hubkeras.common.staging import reading
from hubkeras.consuming import signing

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class LoadedSavedModel:
    """A SavedModel that was loaded.

    Attributes:
        module: what `tf.saved_model.load` returns.
        folder: where it lies, an absolute path.
        files: `{name: SHA-256}` of the files that it was loaded from.
        constants: digests of its large constants, where variables stand for them, see `hubkeras.consuming.light`.
    """

    module: Any
    folder: pathlib.Path
    files: dict[str, str]
    constants: frozenset[bytes] = frozenset()

    @property
    def content_hash(self) -> str:
        """SHA-256 over its files, in hexadecimal; equal for equal models, wherever they lie."""
        return integrity.content_hash(self.files)

    def copy_to(self, target: Path, name: str) -> None:
        """Copies the folder, which must still hold what was loaded.

        Args:
            target: the folder to make.
            name: of what runs the SavedModel, for messages.

        Raises:
            hubkeras.Error: it cannot be copied, or another SavedModel has taken its place.
        """
        try:
            with reading(self.folder):
                shutil.copytree(self.folder, target)
        except OSError as error:
            reason = error.args[0][0][-1] if isinstance(error, shutil.Error) else error.strerror
            raise Error(f"The SavedModel of {name} at {self.folder} cannot be copied: {reason}.") from error
        if integrity.hashes(target) != self.files:
            remove_tree(target)
            raise Error(
                f"The SavedModel of {name} at {self.folder} is not what was loaded from there: it was replaced or "
                f"changed since. Put the one back whose content hash is {self.content_hash} to save the model; "
                "save_weights keeps what was trained."
            )


def load_saved_model(
    folder: Path, *, safe_mode: bool = True, tags: Any = None, options: Any = None, public_key: Path | None = None
) -> LoadedSavedModel:
    """Loads a SavedModel, checked before anything of it runs; nobody replaces it meanwhile.

    Args:
        folder: of the SavedModel.
        safe_mode: whether to refuse one that could do more than compute, see `hubkeras.common.guards.safety`.
        tags: of the graph to load; needed only where there is more than one.
        options: `tf.saved_model.LoadOptions`.
        public_key: PEM file of a key whose owner must have signed it, see `hubkeras.consuming.signing`.

    Raises:
        hubkeras.Error: there is no SavedModel, it cannot be read, it is not as it was written or not signed as it must
            be, it could do more than compute, or TensorFlow cannot load it.
    """
    import tensorflow as tf

    with checked(folder, safe_mode, public_key) as (directory, files):
        stack = contextlib.ExitStack()
        try:
            plain = stack.enter_context(without_wildcards(directory))
            module = tf.saved_model.load(str(plain), tags=tags, options=options)
        except Error:
            raise
        except Exception as error:  # of any kind where a file is damaged
            stack.close()
            raise Error(
                f"{folder} cannot be loaded as a SavedModel ({type(error).__name__}: {first_line(error)}); if it is "
                "damaged, get it again."
            ) from error
        weakref.finalize(module, stack.close)  # its assets are read by the path that it was loaded from
    return LoadedSavedModel(module, directory, files)


@contextlib.contextmanager
def checked(
    folder: Path, safe_mode: bool, public_key: Path | None = None
) -> Iterator[tuple[pathlib.Path, dict[str, str]]]:
    """The absolute path of a SavedModel that may be loaded, and the SHA-256 of its files; arguments as for loading."""
    directory = pathlib.Path(os.path.abspath(folder))
    check_readable(directory)
    if (directory / "tfhub_module.pb").is_file():
        raise Error(f"{folder} is a TF1 Hub module; expected a TF2 SavedModel: `hubkeras export` makes one.")
    if not (directory / "saved_model.pb").is_file():
        raise Error(f"{folder} is not a SavedModel: it holds no saved_model.pb.")
    with reading(directory):
        files = integrity.checked_hashes(directory)
        if public_key is not None:
            signing.check_signature(directory, public_key=public_key)
        if safe_mode:
            safety.check(directory)
        yield directory, files
