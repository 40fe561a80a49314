"""What long work calls to show how far it has come."""

from collections.abc import Callable

# called with what is done, of how much, and what is being done
Progress = Callable[[int, int, str], None]


def silent(done: int, total: int, what: str) -> None:
    """Progress that is not shown."""
