"""Parses and writes ``tf.train.Example`` messages without TensorFlow.

The message is ``Example{1: Features{1: map entry{1: key, 2: Feature}}}`` with
``Feature{1: BytesList | 2: FloatList | 3: Int64List}``, each a list in field 1 (tensorflow/core/example/feature.proto,
and the wire format of https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence

Feature = list[bytes] | list[float] | list[int]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class WireError(ValueError):
    """The bytes are not a ``tf.train.Example``."""


def parse_example(record: bytes) -> tuple[dict[str, Feature], dict[str, int]]:
    """The features of a record, and the offset in it of the first value of each feature of bytes.

    Raises:
        WireError: the record is not a valid message.
    """
    features: dict[str, Feature] = {}
    offsets: dict[str, int] = {}
    for start, end in _messages(record, 0, len(record), 1):
        for entry_start, entry_end in _messages(record, start, end, 1):
            key = b"".join(record[a:b] for a, b in _messages(record, entry_start, entry_end, 1))
            name = key.decode("utf-8", "surrogateescape")
            for value_start, value_end in _messages(record, entry_start, entry_end, 2):
                features[name], offset = _parse_feature(record, value_start, value_end)
                if offset is not None:
                    offsets[name] = offset
    return features, offsets


def _parse_feature(record: bytes, start: int, end: int) -> tuple[Feature, int | None]:
    for a, b in _messages(record, start, end, 1):
        spans = list(_messages(record, a, b, 1))
        return [record[x:y] for x, y in spans], spans[0][0] if spans else None
    for a, b in _messages(record, start, end, 2):
        floats: list[float] = []
        for wire, x, y in _fields(record, a, b, 1):
            if wire not in (_BYTES, _FIXED32) or (y - x) % 4:
                raise WireError("a list of floats is cut short")
            floats.extend(struct.unpack(f"<{(y - x) // 4}f", record[x:y]))
        return floats, None
    numbers: list[int] = []
    for a, b in _messages(record, start, end, 3):
        for _, x, y in _fields(record, a, b, 1):
            while x < y:
                number, x = _varint(record, x, y)
                numbers.append(number - 2**64 if number >= 2**63 else number)
    return numbers, None


def _messages(record: bytes, start: int, end: int, field: int) -> Iterator[tuple[int, int]]:
    for wire, a, b in _fields(record, start, end, field):
        if wire != _BYTES:
            raise WireError("a field has the wrong type")
        yield a, b


def _fields(record: bytes, start: int, end: int, field: int) -> Iterator[tuple[int, int, int]]:
    """``(wire type, start, end)`` of each value of ``field`` in the message ``record[start:end]``."""
    while start < end:
        key, start = _varint(record, start, end)
        wire = key & 7
        first = start
        if wire == _VARINT:
            _, start = _varint(record, start, end)
        elif wire == _BYTES:
            length, first = _varint(record, start, end)
            start = first + length
        elif wire in (_FIXED64, _FIXED32):
            start += 8 if wire == _FIXED64 else 4
        else:
            raise WireError("an unknown field type")
        if start > end:
            raise WireError("a field reaches beyond the end")
        if key >> 3 == field:
            yield wire, first, start


def _varint(record: bytes, start: int, end: int) -> tuple[int, int]:
    number = 0
    for index, byte in enumerate(record[start : min(end, start + 10)]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number & (2**64 - 1), start + index + 1
    raise WireError("a number is cut short")


def write_example(features: Mapping[str, Sequence[bytes] | Sequence[float] | Sequence[int]]) -> bytes:
    """Encodes ``features``; an empty list becomes a feature without a type, which TensorFlow accepts as any type."""
    entries = b""
    for name in sorted(features):
        values = features[name]
        kind = 3 if values and isinstance(values[0], int) else 2 if values and isinstance(values[0], float) else 1
        if kind == 1:
            content = b"".join(_tagged(1, bytes(v)) for v in values if isinstance(v, bytes))
        elif kind == 2:
            content = _tagged(1, struct.pack(f"<{len(values)}f", *values))
        else:
            content = _tagged(1, b"".join(_varint_bytes(int(v)) for v in values))
        feature = _tagged(kind, content) if values else b""
        entries += _tagged(1, _tagged(1, name.encode("utf-8", "surrogateescape")) + _tagged(2, feature))
    return _tagged(1, entries)


def _tagged(field: int, content: bytes) -> bytes:
    return _varint_bytes(field << 3 | _BYTES) + _varint_bytes(len(content)) + content


def _varint_bytes(number: int) -> bytes:
    number &= 2**64 - 1
    result = bytearray()
    while number >= 0x80:
        result.append(number & 0x7F | 0x80)
        number >>= 7
    result.append(number)
    return bytes(result)


__all__ = ["Feature", "WireError", "parse_example", "write_example"]
