"""The one exception that hubkeras raises for bad input, and the words of other libraries in it."""

import errno
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable

_OF_TENSORFLOW = re.compile(r"^(\{\{.*?\}\} )+")  # the operation, before what it has to say
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode's categories of what terminals obey, or that turns text around
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_FULL = 1 << 16  # bytes free, with which a disk is taken for full
_SEEN = "\n\u200c\u200d"  # line ends, and what joins letters and emoji


class Error(ValueError):
    """What was given, what was expected and what to do, in one sentence.

    Args:
        texts: the sentence.
        repair: for users of the command line, what repairs it: an option to add, or another command.

    Examples:
        >>> try:
        ...     hubkeras.load_image("photo.heic", 96)
        ... except hubkeras.Error as error:
        ...     print(error)
        Cannot read the image photo.heic: No such file or directory.
    """

    def __init__(self, *texts: object, repair: str | None = None) -> None:
        super().__init__(*(printable(text) if isinstance(text, str) else text for text in texts))
        self.repair = repair


def printable(text: str) -> str:
    r"""A text with escapes in place of what a terminal would obey, such as colours in names that strangers chose.

    >>> printable("a\x1b[31m b")
    'a\\x1b[31m b'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character in _SEEN or unicodedata.category(character) not in _UNSEEN else ascii(character)[1:-1]
        for character in text
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where a known word is close to the one that was given, else nothing.

    >>> did_you_mean("exprot", ["convert", "export"])
    '; did you mean export?'
    """
    import difflib

    return "".join(f"; did you mean {close}?" for close in difflib.get_close_matches(word, list(known), n=1))


def first_line(error: BaseException) -> str:
    """The first line of what an error of TensorFlow, Keras or another library says; of a silent one its type."""
    text = _OF_TENSORFLOW.sub("", str(getattr(error, "message", error)).strip())
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".?")


def reason(error: OSError) -> str:
    """Why something cannot be written, in words; a file in the place of a folder is said to be one."""
    return "it is a file, no folder" if isinstance(error, FileExistsError | NotADirectoryError) else str(error.strerror)


def no_place(error: Exception, folder: str | os.PathLike[str]) -> OSError | None:
    """The OSError behind what a library raises that could not write into a folder, where the place is the reason.

    TensorFlow says it after the path of a temporary file; OpenVINO does not, and its disk is asked.
    """
    for number in _NO_PLACE:
        if os.strerror(number) in str(error):
            return OSError(number, os.strerror(number))
    is_full = os.path.isdir(folder) and shutil.disk_usage(folder).free < _FULL
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if is_full else None


def tensorflow_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """The errors that TensorFlow raises, where it was imported, and others."""
    tensorflow = sys.modules.get("tensorflow")
    return others if tensorflow is None else (tensorflow.errors.OpError, *others)
