"""What a source's module says of itself in the table of `hubkeras.converters.sources.opening`."""

import contextlib
import pathlib
from collections.abc import Callable
from dataclasses import dataclass

from hubkeras.converters.checkpoint import Checkpoint


@dataclass(frozen=True)
class Reader:
    """A form of source and how it is read.

    Attributes:
        form: what it is, for people: `a frozen graph (.pb)`.
        title: the same in two or three words.
        recognises: whether a path, of a file or folder, is of this form.
        open: context manager of the `Checkpoint` at a path.
        endings: of the files by which it is found among others, in a folder or an archive.
        last_endings: of the files that count there where nothing else is a source, since most of them are something
            else.
    """

    form: str
    title: str
    recognises: Callable[[pathlib.Path], bool]
    open: Callable[[pathlib.Path], contextlib.AbstractContextManager[Checkpoint]]
    endings: tuple[str, ...] = ()
    last_endings: tuple[str, ...] = ()
