"""What Linux says of this machine's processor."""

import pathlib


def description() -> str | None:
    """The text of `/proc/cpuinfo`, with the names of the instructions; None on another system."""
    try:
        return pathlib.Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return None


def has_any(*names: str) -> bool | None:
    """Whether the processor has one of these instructions, by a part of its name; None on another system."""
    text = description()
    return None if text is None else any(name in text for name in names)
