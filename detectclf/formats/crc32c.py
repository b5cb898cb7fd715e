"""CRC-32C (Castagnoli, RFC 3720 appendix B.4), as TFRecord files use it; Python's own zlib has another polynomial."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78
_BLOCK = 256
"""Bytes of one lane: all lanes of a record go forward together, so that numpy does the work."""

Table = npt.NDArray[np.uint32]


def _byte_table() -> Table:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


def _skip_table() -> Table:
    """``(4, 256)``: what each byte of a register becomes after ``_BLOCK`` zero bytes; a CRC is linear: they xor."""
    registers = np.arange(256, dtype=np.uint32)[None, :] << np.array([[0], [8], [16], [24]], dtype=np.uint32)
    for _ in range(_BLOCK):
        registers = _TABLE[registers & 0xFF] ^ (registers >> 8)
    return registers


_TABLE = _byte_table()
_SKIP = _skip_table()


def crc32c(data: bytes | memoryview) -> int:
    """The CRC-32C of ``data``."""
    content = np.frombuffer(data, dtype=np.uint8)
    # Zeros in front do not change a register that starts at 0, so the lanes can be filled up there; the register's
    # real start, all ones, is the same as inverting the first four bytes.
    padding = -len(content) % _BLOCK
    if len(content) < 4:
        return _short(bytes(data))
    padded = np.concatenate([np.zeros(padding, dtype=np.uint8), content])
    padded[padding : padding + 4] ^= 0xFF
    lanes = padded.reshape(-1, _BLOCK)
    registers = np.zeros(len(lanes), dtype=np.uint32)
    for column in range(_BLOCK):
        registers = _TABLE[(registers ^ lanes[:, column]) & 0xFF] ^ (registers >> 8)
    first, second, third, fourth = (row.tolist() for row in _SKIP)
    result = 0
    for register in registers.tolist():
        skipped = first[result & 0xFF] ^ second[result >> 8 & 0xFF] ^ third[result >> 16 & 0xFF] ^ fourth[result >> 24]
        result = skipped ^ register
    return result ^ 0xFFFFFFFF


def _short(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register = int(_TABLE[(register ^ byte) & 0xFF]) ^ (register >> 8)
    return register ^ 0xFFFFFFFF


def masked_crc32c(data: bytes | memoryview) -> int:
    """The CRC as TFRecord stores it: rotated and shifted by a constant (tensorflow/core/lib/hash/crc32c.h)."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


__all__ = ["crc32c", "masked_crc32c"]
