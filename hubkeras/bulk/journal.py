"""Which images a run was reading when its process ended, so that the next run finds the one that ends it."""

import collections
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hubkeras.common.errors import Error
from hubkeras.consuming.decoding import decode_pixels

_IMAGES, _BEGIN, _END, _ALONE, _FATAL = "images", "begin", "end", "alone", "fatal"
_MOST_DEATHS = 2  # of processes that read an image alone; one may have been stopped by somebody
_LENGTH = 8  # bytes of the length of an image, for the process that tries it
_TRIAL = [sys.executable, "-c", "from hubkeras.bulk.journal import serve_trials; serve_trials()"]
_STREAMS: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}


class Journal:
    """A file of lines: the batches that are being read and have been, images that are read alone, and those that end
    the process that reads them.

    Args:
        path: of the file, which may be there from a run that was killed; None for no journal.
        images: what tells these images from others, in one word.

    Raises:
        hubkeras.Error: it cannot be read or written.
    """

    def __init__(self, path: pathlib.Path | None, images: str = "") -> None:
        self.path = path
        self.fatal: dict[int, str] = {}
        self.suspects: set[int] = set()  # that were being read
        lines = self._tried(lambda path: path.read_text("utf-8").splitlines() if path.exists() else [])
        deaths: collections.Counter[int] = collections.Counter()
        header = f"{_IMAGES} {images}"
        if not lines or lines[0] != header:
            lines = [header]
            self._tried(lambda path: path.write_text(f"{header}\n", "utf-8"))
        for line in lines[1:]:
            self._take(*line.split(" ", 3)[:4], deaths=deaths)
        ended = "the process that read it alone ended, twice"
        self.fatal.update({number: ended for number, count in deaths.items() if count >= _MOST_DEATHS})
        self.suspects.update(+deaths)

    def _take(self, verb: str, *words: str, deaths: collections.Counter[int]) -> None:
        try:
            first, last = map(int, words[:2])
        except ValueError:  # the last line of a run that was killed
            return
        numbers = range(first, last + 1)
        if verb == _FATAL:
            self.fatal[first] = words[2]
        elif verb == _ALONE:
            deaths.update(numbers)
        elif verb == _BEGIN:
            self.suspects.update(numbers)
        elif verb == _END:
            self.suspects.difference_update(numbers)
            deaths.subtract([number for number in numbers if deaths[number]])

    def _tried(self, work: Callable[[pathlib.Path], Any]) -> Any:
        if self.path is None:
            return None
        try:
            return work(self.path)
        except OSError as error:
            raise Error(f"Cannot write to {self.path.parent}: {error.strerror or error}.") from error

    def _write(self, verb: str, numbers: Sequence[int], reason: str = "") -> None:
        def append(path: pathlib.Path) -> None:
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{verb} {numbers[0]} {numbers[-1]} {reason}".rstrip() + "\n")

        self._tried(append)

    def begin(self, numbers: Sequence[int]) -> None:
        """Tells that the images from the first to the last of `numbers` are being read."""
        self._write(_BEGIN, numbers)

    def begin_alone(self, number: int) -> None:
        """Tells that an image is being read, and nothing else."""
        self._write(_ALONE, [number])

    def end(self, numbers: Sequence[int]) -> None:
        """Tells that they have been read."""
        self._write(_END, numbers)

    def try_suspects(self, numbers: Iterable[int], read: Callable[[int], bytes]) -> None:
        """Decodes those of the images that were being read when an earlier run ended, in processes of their own.

        Args:
            numbers: of the images that are still to be read.
            read: gives the bytes of an image, or raises hubkeras.Error.
        """
        wanted = sorted(self.suspects.intersection(numbers).difference(self.fatal))
        for number, reason in _trials(wanted, read):
            self.fatal[number] = reason
            self._write(_FATAL, [number], reason)

    def close(self) -> None:
        """Takes the file away, when all images have been read."""
        self._tried(lambda path: path.unlink(missing_ok=True))


NO_JOURNAL = Journal(None)


def _trials(numbers: Sequence[int], read: Callable[[int], bytes]) -> Iterable[tuple[int, str]]:
    """Yields the numbers of images whose decoding ends a process, and how it ended."""
    process: subprocess.Popen[bytes] | None = None
    for number in numbers:
        try:
            data = read(number)
            process = process or subprocess.Popen(
                _TRIAL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except Error:
            continue  # the row of this image says why
        except OSError:
            return  # no other process can be started; images that are read alone tell it later
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(len(data).to_bytes(_LENGTH, "little") + data)
            process.stdin.flush()
            survived = process.stdout.read(1)
        except BrokenPipeError:
            survived = b""
        if not survived:
            code = process.wait()
            process = None
            if code >= 0:  # it could not begin
                return
            yield number, f"decoding it ends the process ({signal.Signals(-code).name})"
    if process and process.stdin:
        process.stdin.close()
        process.wait()


def serve_trials() -> None:
    """Decodes the images that come on standard input, and writes a byte for each that it has survived."""
    while length := int.from_bytes(sys.stdin.buffer.read(_LENGTH), "little"):
        data = sys.stdin.buffer.read(length)
        if len(data) < length:
            return
        with contextlib.suppress(Error):
            decode_pixels(data)
        os.write(1, b".")
