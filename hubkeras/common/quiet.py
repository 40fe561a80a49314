"""Standard error is for our messages, not for what libraries find worth telling there."""

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps progress bars, advice and logs of libraries off the terminal, those written by C++ too."""
    sys.stderr.flush()
    terminal = os.dup(2)
    logging.disable(logging.WARNING)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        logging.disable(logging.NOTSET)
