"""What Linux says of this machine's processor."""

import pathlib


def description() -> str | None:
    """The text of `/proc/cpuinfo`, with the names of the instructions; None on another system."""
    try:
        return pathlib.Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return None
