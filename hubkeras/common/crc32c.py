"""CRC-32C, the checksum of TensorFlow's records and LevelDB's tables, which neither Python nor NumPy has."""

import functools

import numpy as np

_SHORT = 1 << 11  # bytes, up to which a plain loop is faster
_LANES, _TILE = 1 << 13, 64  # as many as the processor's cache likes
_ONES = 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """The checksum as it is stored: rotated and shifted, so that it may lie among what it covers."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & _ONES


def crc32c(data: bytes) -> int:
    """The CRC-32C of some bytes.

    Long data are cut into equal lanes that advance together, one word a step; their checksums are then joined in pairs,
    since that of two parts is the first's, advanced over zeros as long as the second part, and the second's.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    table, low, high, _ = _tables()
    if len(data) <= _SHORT:
        crc = _ONES
        for byte in data:
            crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
        return int(crc) ^ _ONES
    words = -(-len(data) // 4)
    steps = 1 << max(words.bit_length() // 2, (words // _LANES).bit_length())
    padded = np.zeros((-(-words // steps), 4 * steps), np.uint8)  # zeros in front do not count
    flat = padded.reshape(-1)[-len(data) :]
    flat[:] = np.frombuffer(data, np.uint8)
    flat[:4] ^= 255
    crcs = np.zeros(len(padded), np.uint32)
    for start in range(0, steps, _TILE):
        for column in np.ascontiguousarray(padded.view("<u4")[:, start : start + _TILE].T):
            crcs ^= column
            crcs = low.take(crcs & 0xFFFF) ^ high.take(crcs >> 16)
    power = (4 * steps).bit_length() - 1
    while len(crcs) > 1:
        crcs = np.concatenate([np.zeros(len(crcs) % 2, np.uint32), crcs])
        crcs = _applied(_advance(power), crcs[::2]) ^ crcs[1::2]
        power += 1
    return int(crcs[0]) ^ _ONES


@functools.cache
def _advance(power: int) -> np.ndarray:
    """The matrix of `2 ** power` bytes of zeros."""
    return _applied(_advance(power - 1), _advance(power - 1)) if power else _tables()[3]


def _applied(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A linear map of 32 bits, given by what it makes of each bit, on some values."""
    result = np.zeros_like(values)
    for bit, image in enumerate(matrix):
        result ^= (values >> np.uint32(bit) & np.uint32(1)) * image
    return result


@functools.cache
def _tables() -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """The map of one byte as a list, that of a word's low and high half, and that of a byte of zeros as a matrix."""
    byte = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        byte = (byte >> 1) ^ (byte & 1) * np.uint32(0x82F63B78)

    def zero(values: np.ndarray) -> np.ndarray:
        return byte[values & 255] ^ (values >> 8)

    low = np.arange(1 << 16, dtype=np.uint32)
    high = low << 16
    for _ in range(4):
        low, high = zero(low), zero(high)
    return byte.tolist(), low, high, zero(np.uint32(1) << np.arange(32, dtype=np.uint32))
