"""Images of few bytes and pixels that take minutes to decode: too many scans, or parts beside the pixels."""

from hubkeras.common.errors import Error

_MOST_PARTS = 200_000  # chunks of PNG, blocks of a GIF's comments; 512 MiB in chunks of 8 KiB are 65,536
_MOST_EXIF = 32  # segments of JPEG, which Pillow puts together one by one
_MOST_SCANS, _MOST_SCANNED = 20, 2**30  # of progressive JPEG, and pixels over all scans; cameras and tools make 10


def check_scans(data: bytes, kind: str, path: str, pixels: int) -> None:
    """Raises hubkeras.Error where an image has more parts than a decoder gets through in seconds.

    Args:
        data: the bytes of the file.
        kind: such as `JPEG`, see `hubkeras.consuming.decoding`.
        path: of the file, for messages.
        pixels: of the image.
    """
    if kind == "JPEG" and pixels > _MOST_SCANNED >> 8:
        scans = data.count(b"\xff\xda")  # which occurs in no compressed data
        if scans > _MOST_SCANS and scans * pixels > _MOST_SCANNED:
            raise Error(f"{path} is a JPEG image of {scans:,} scans; cameras make 10, so save it anew.")


def check_parts(data: bytes, kind: str, path: str) -> None:
    """The same of what is read on opening, before the number of pixels is known."""
    exif = data.count(b"Exif\0\0") if kind == "JPEG" else 0
    if exif > _MOST_EXIF:
        raise Error(f"{path} is a JPEG image with {exif:,} EXIF parts; save it anew.")
    count = _COUNTS.get(kind, lambda _: 0)(data)
    if count > _MOST_PARTS:
        raise Error(f"{path} is a {kind} image of more than {_MOST_PARTS:,} parts; save it anew.")


def _png(data: bytes) -> int:
    place, count = 8, 0
    while place + 8 <= len(data) and count <= _MOST_PARTS:
        place += 12 + int.from_bytes(data[place : place + 4], "big")
        count += 1
    return count


def _gif(data: bytes) -> int:
    """Blocks before the first frame."""
    palette = data[10] if len(data) > 10 else 0
    place, count = 13 + (3 << (palette & 7) + 1 if palette & 128 else 0), 0
    while place + 2 < len(data) and data[place] == 0x21 and count <= _MOST_PARTS:
        place += 2
        while place < len(data) and data[place] and count <= _MOST_PARTS:
            place += 1 + data[place]
            count += 1
        place, count = place + 1, count + 1
    return count


_COUNTS = {"PNG": _png, "GIF": _gif}
