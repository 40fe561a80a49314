"""Python's garbage collector, out of the way while large graphs are made."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Python's garbage collector off: it would walk TensorFlow's million objects again and again, a second or two."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
