"""How large files, archives and downloads may be."""

import os

from hubkeras.common.errors import Error

# The heaviest that there is of the three networks: Inception-ResNet V2 with its auxiliary head, 60 M float32 values,
# in training four of each (value, moving average, two slots of an optimizer), 1 GB; and as much again beside it.
MOST_BYTES = 2 << 30
MOST_MEMBERS = 10_000  # of an archive
_MOST_DIGITS = 30  # Python reads up to 4300
UNPACKED, DOWNLOAD = "HUBKERAS_MAX_UNPACKED", "HUBKERAS_MAX_DOWNLOAD"  # of the environment


def bytes_allowed(variable: str) -> int:
    """The number of bytes that a variable of the environment allows, by default 2 GiB.

    Raises:
        hubkeras.Error: the variable is no whole number.
    """
    setting = os.environ.get(variable, "").strip()
    if setting and not (setting.isdecimal() and len(setting) < _MOST_DIGITS):
        setting = setting if len(setting) < _MOST_DIGITS else f"{setting[:_MOST_DIGITS]}..."
        raise Error(f"{variable} must be a whole number of bytes, such as {MOST_BYTES}; it is {setting!r}.")
    return int(setting) if setting else MOST_BYTES
