"""A journal of the images that a run reads: where one ends the process, the next run finds and leaves it out."""

import collections
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from hubkeras.common.errors import Error
from hubkeras.consuming.decoding import decode_pixels

Read = Callable[[int], bytes]

_IMAGES, _BEGIN, _END, _ALONE, _FATAL = "images", "begin", "end", "alone", "fatal"
_MOST_DEATHS = 2  # of processes that read an image alone; one may have been stopped by somebody
_LENGTH = 8  # bytes of the length of an image, for the process that tries it
_TRIAL = [sys.executable, "-c", "from hubkeras.bulk.journal import serve_trials; serve_trials()"]


class Journal:
    """A file of lines: the batches that are being read and have been, images that are read alone, and those that end
    the process that reads them.

    Attributes:
        fatal: `{number of an image: how it ends the process that reads it}`.
        suspects: the images that were being read when an earlier run ended.

    Args:
        path: of the file, which may be there from a run that was killed; None for no journal.
        images: what tells these images from others, in one word.

    Raises:
        hubkeras.Error: it cannot be read or written.
    """

    def __init__(self, path: pathlib.Path | None, images: str = "") -> None:
        self.path, self.fatal, self.suspects = path, dict[int, str](), set[int]()
        if path is None:
            return
        header, deaths = f"{_IMAGES} {images}", collections.Counter[int]()
        with self._writing():
            lines = path.read_text("utf-8").splitlines() if path.exists() else []
            if lines[:1] != [header]:
                lines = [header]
                path.write_text(f"{header}\n", "utf-8")
        for line in lines[1:]:
            self._take(line, deaths)
        ended = "the process that read it alone ended, twice"
        self.fatal.update({number: ended for number, count in deaths.items() if count >= _MOST_DEATHS})
        self.suspects.update(+deaths)

    def _take(self, line: str, deaths: collections.Counter[int]) -> None:
        """Learns from a line, `verb first last reason`; the last one of a run that was killed may be cut short."""
        verb, *words = line.split(" ", 3)
        if len(words) < 2 or not all(word.isdecimal() for word in words[:2]):
            return
        numbers = range(int(words[0]), int(words[1]) + 1)
        if verb == _FATAL:
            self.fatal[numbers[0]] = words[-1]
        elif verb == _ALONE:
            deaths.update(numbers)
        elif verb == _BEGIN:
            self.suspects.update(numbers)
        elif verb == _END:
            self.suspects.difference_update(numbers)
            deaths.subtract([number for number in numbers if deaths[number]])

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Error(f"Cannot write to {self.path and self.path.parent}: {error.strerror or error}.") from error

    def _write(self, verb: str, numbers: Sequence[int], reason: str = "") -> None:
        if self.path is not None:
            with self._writing(), open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{verb} {numbers[0]} {numbers[-1]} {reason}".rstrip() + "\n")

    def begin(self, numbers: Sequence[int]) -> None:
        """Tells that the images from the first to the last of `numbers` are being read."""
        self._write(_BEGIN, numbers)

    def begin_alone(self, number: int) -> None:
        """Tells that an image is being read, and nothing else."""
        self._write(_ALONE, [number])

    def end(self, numbers: Sequence[int]) -> None:
        """Tells that they have been read."""
        self._write(_END, numbers)

    def try_suspects(self, numbers: Iterable[int], read: Read) -> None:
        """Decodes those of the images that were being read when an earlier run ended, in a process of their own.

        Args:
            numbers: of the images that are still to be read.
            read: gives the bytes of an image, or raises hubkeras.Error.
        """
        for number, reason in _fatal_images(sorted(self.suspects.intersection(numbers) - set(self.fatal)), read):
            self.fatal[number] = reason
            self._write(_FATAL, [number], reason)

    def close(self) -> None:
        """Takes the file away, when all images have been read."""
        if self.path is not None:
            with self._writing():
                self.path.unlink(missing_ok=True)


NO_JOURNAL = Journal(None)


def _fatal_images(numbers: Sequence[int], read: Read) -> Iterator[tuple[int, str]]:
    """Yields the numbers of images whose decoding ends a process, and how it ended."""
    images = []
    for number in numbers:
        with contextlib.suppress(Error):  # the row of this image says why
            images.append((number, read(number)))
    images = [(number, data) for number, data in images if data]  # a length of 0 is the end
    while images:
        stream = b"".join(len(data).to_bytes(_LENGTH, "little") + data for _, data in images)
        try:
            trial = subprocess.run(_TRIAL, input=stream, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        except OSError:
            return  # no other process can be started; images that are read alone tell it later
        survived = len(trial.stdout)
        if trial.returncode >= 0 or survived == len(images):  # above 0 it could not begin
            return
        yield images[survived][0], f"decoding it ends the process ({signal.Signals(-trial.returncode).name})"
        images = images[survived + 1 :]


def serve_trials() -> None:
    """Decodes the images that come on standard input, and writes a byte for each that it has survived."""
    while length := int.from_bytes(sys.stdin.buffer.read(_LENGTH), "little"):
        data = sys.stdin.buffer.read(length)
        with contextlib.suppress(Error):
            decode_pixels(data)
        os.write(1, b".")
