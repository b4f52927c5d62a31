"""A restricted, explicit encoding of plain values, for talking with code that is not trusted.

Encoded are exactly: None, bool, int, float (nan, infinities, -0.0), complex, str (lone surrogates
too), bytes, bytearray, list, tuple, dict, set, frozenset, range, Decimal, Fraction, and the builtin
types themselves. A subclass of one of them becomes the plain value, by the base type's own methods;
an iterator is run to its end and arrives as a list iterator. Anything else is refused, or named by
a number that only the side which owns it can look up (`Reference`). No code travels, and nothing is
ever pickled.

Decoding is total: whatever the bytes, it returns a plain value or raises `Refused`. Size, depth and
the number of items are bounded, and so is the time: nothing is built whose cost is not about its
length (no keys that collide on purpose, no fraction written as text or with huge parts).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_DEPTH = 100
MAX_BYTES = 32 << 20
MAX_ITEMS = 1_000_000
PIPE_BYTES = 60_000  # a frame of fewer fits an empty pipe: nobody has to read while it is written
_MAX_SAME_HASH = 100  # of keys with one hash, each is compared with all the others
_MAX_QUADRATIC_BITS = 1 << 17  # of integers whose further use costs their length squared


class Refused(ValueError):
    """A value cannot be carried, or bytes do not decode. The message says why."""


class TooLarge(Refused):
    """A plain value that is too long or nested too deep to be carried."""


@dataclass(frozen=True, slots=True)
class Reference:
    """An object that stays where it is.

    Attributes:
        number: its key on the side that owns it.
        type_name: what it calls its type; for messages only, the owner may lie.
        callable: whether it said that it can be called.
    """

    number: int
    type_name: str
    callable: bool = False


_ITERATORS: tuple[type[Any], ...] = (
    type(iter(())),
    type(iter([])),
    type(iter("")),
    type(iter(range(0))),
    type(iter({})),
    type(iter({}.values())),
    type(iter({}.items())),
    type(iter(set())),
    type(_ for _ in [None]),
    map,
    filter,
    zip,
    enumerate,
    reversed,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)
_U32 = struct.Struct(">I")
_F64 = struct.Struct(">d")
_CONSTANTS = {b"N": None, b"T": True, b"F": False}
_SEQUENCES: dict[type[Any], bytes] = {list: b"l", tuple: b"t", set: b"S", frozenset: b"Z"}
_CONTAINERS = frozenset((b"l", b"t", b"S", b"Z", b"d", b"r", b"I", b"Q"))
_TYPES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        list,
        tuple,
        dict,
        set,
        frozenset,
        type(None),
    )
}
_TYPE_NAMES: dict[Any, str] = {kind: name for name, kind in _TYPES.items()}


class _Encoder:
    def __init__(self, refer: Callable[[Any], Reference | None] | None) -> None:
        self.parts: list[bytes] = []
        self.size = 0
        self.items = 0
        self.refer = refer

    def add(self, tag: bytes, payload: bytes) -> None:
        self.size += len(payload) + 5
        if self.size > MAX_BYTES:
            raise TooLarge(f"the value is larger than {MAX_BYTES} bytes")
        self.parts += (tag, _U32.pack(len(payload)), payload)

    def encode(self, value: Any, depth: int) -> None:
        kind = type(value)
        if value is None:
            self.parts.append(b"N")
        elif kind is bool:
            self.parts.append(b"T" if value else b"F")
        elif kind is int:
            self.add(b"i", value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
        elif kind is str:
            self.add(b"s", value.encode("utf-8", "surrogatepass"))
        elif kind is float:
            self.add(b"f", _F64.pack(value))
        elif kind in _SEQUENCES:
            self.sequence(_SEQUENCES[kind], value, len(value), depth)
        elif kind is dict:
            self.mapping(value, depth)
        else:
            self.rarer(value, kind, depth)

    def sequence(self, tag: bytes, values: Any, length: int, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise TooLarge(f"the value is nested deeper than {MAX_DEPTH}, or contains itself")
        self.items += length
        if self.items > MAX_ITEMS:
            raise TooLarge(f"the value has more than {MAX_ITEMS} items")
        self.parts += (tag, _U32.pack(length))
        self.size += 5
        count = 0
        for value in values:
            self.encode(value, depth + 1)
            count += 1
        if count != length:
            raise Refused("a container changed while it was read")

    def mapping(self, value: dict[Any, Any], depth: int) -> None:
        flat = [part for item in dict.items(value) for part in item]
        self.sequence(b"d", flat, len(flat), depth)

    def rarer(self, value: Any, kind: type, depth: int) -> None:
        if kind is complex:
            self.add(b"c", _F64.pack(value.real) + _F64.pack(value.imag))
        elif kind is bytes or kind is bytearray:
            self.add(b"b" if kind is bytes else b"B", bytes(value))
        elif kind is Decimal:
            self.add(b"D", str(value).encode())
        elif kind is Fraction:
            self.sequence(b"Q", (value.numerator, value.denominator), 2, depth)
        elif kind is range:
            bounds = (value.start, value.stop, value.step)
            self.sequence(b"r", bounds, 3, depth)
        elif kind is type and value in _TYPE_NAMES:
            self.add(b"y", _TYPE_NAMES[value].encode())
        elif kind is Reference:
            self.reference(value)
        elif kind in _ITERATORS or kind.__module__ == "itertools":
            self.iterator(value, depth)
        else:
            self.subclass(value, kind, depth)

    def iterator(self, value: Any, depth: int) -> None:
        items = []
        for item in value:
            items.append(item)
            if len(items) > MAX_ITEMS:
                raise TooLarge(f"an iterator gave more than {MAX_ITEMS} items")
        self.sequence(b"I", items, len(items), depth)

    def subclass(self, value: Any, kind: type, depth: int) -> None:
        """Read the plain value inside by the base's own methods, never by the subclass's."""
        if issubclass(kind, int):
            self.encode(int.__int__(value), depth)
        elif issubclass(kind, str):
            self.encode(str.__str__(value), depth)
        elif issubclass(kind, float):
            self.encode(float.__float__(value), depth)
        elif issubclass(kind, list):
            self.sequence(b"l", list.__iter__(value), list.__len__(value), depth)
        elif issubclass(kind, tuple):
            self.sequence(b"t", tuple.__iter__(value), tuple.__len__(value), depth)
        elif issubclass(kind, dict):
            self.mapping(value, depth)
        elif issubclass(kind, set):
            self.sequence(b"S", set.__iter__(value), set.__len__(value), depth)
        elif issubclass(kind, frozenset):
            self.sequence(b"Z", frozenset.__iter__(value), frozenset.__len__(value), depth)
        elif issubclass(kind, bytes):
            self.add(b"b", bytes.__getitem__(value, slice(None)))
        else:
            named = self.refer(value) if self.refer is not None else None
            if named is None:
                raise Refused(f"a {kind.__name__} is not a plain value")
            self.reference(named)

    def reference(self, value: Reference) -> None:
        name = value.type_name.encode("utf-8", "replace")[:200]
        self.add(b"R", _U32.pack(value.number) + bytes([value.callable]) + name)


def encode(value: Any, refer: Callable[[Any], Reference | None] | None = None) -> bytes:
    """Encode a plain value.

    Args:
        value: what to encode.
        refer: names an object that is not plain; without it such an object is refused.

    Raises:
        Refused: it is not plain, too large, too deep, cyclic, or changes while it is read.
    """
    encoder = _Encoder(refer)
    try:
        encoder.encode(value, 0)
    except RecursionError as error:
        raise TooLarge("the value is nested too deep") from error
    return b"".join(encoder.parts)


class Decoder:
    """Reads encoded bytes; `container` and `scalar` say what becomes of each part."""

    def __init__(self, data: bytes, resolve: Callable[[Reference], Any]) -> None:
        self.data = data
        self.position = 0
        self.items = 0
        self.rare = b""
        self.resolve = resolve

    def decode(self, depth: int) -> Any:
        """The next value."""
        if depth > MAX_DEPTH + 1:
            raise Refused("the bytes are nested too deep")
        data, start = self.data, self.position
        tag = data[start : start + 1]
        if tag in _CONSTANTS:
            self.position = start + 1
            return _CONSTANTS[tag]
        body = start + 5
        length = int.from_bytes(data[start + 1 : body], "big")
        has_parts = tag in _CONTAINERS
        end = body if has_parts else body + length
        if end > len(data):
            raise Refused("the bytes end too early")
        self.position = end
        if has_parts:
            return self.container(tag, length, depth)
        return self.scalar(tag, data[body:end])

    def scalar(self, tag: bytes, payload: bytes) -> Any:
        """What has no parts."""
        if tag == b"i":
            if len(payload) > _MAX_QUADRATIC_BITS // 8:
                self.note(b"i")
            return int.from_bytes(payload, "big", signed=True)
        if tag == b"s":
            return payload.decode("utf-8", "surrogatepass")
        if tag == b"f":
            return _F64.unpack(payload)[0]
        if tag == b"b":
            return payload
        if tag == b"B":
            return bytearray(payload)
        if tag == b"c":
            return complex(_F64.unpack(payload[:8])[0], _F64.unpack(payload[8:])[0])
        if tag == b"D":
            self.note(b"D")
            return Decimal(payload.decode())
        if tag == b"y":
            return _TYPES[payload.decode()]
        if tag == b"R":
            number, called = _U32.unpack(payload[:4])[0], bool(payload[4])
            return self.resolve(Reference(number, payload[5:].decode(), called))
        raise Refused(f"unknown tag {tag!r}")

    def note(self, kind: bytes) -> None:
        """Refuse a huge integer beside a Decimal: they are compared in its length squared."""
        if self.rare not in (b"", kind):
            raise Refused(f"a Decimal beside an integer of more than {_MAX_QUADRATIC_BITS} bits")
        self.rare = kind

    def parts(self, length: int, depth: int) -> list[Any]:
        """So many values, where the bytes can hold them."""
        self.items += length
        if self.items > 2 * MAX_ITEMS or length > len(self.data) - self.position:
            raise Refused("the bytes announce too many items")
        return [self.decode(depth + 1) for _ in range(length)]

    def container(self, tag: bytes, length: int, depth: int) -> Any:
        """What is made of parts."""
        values = self.parts(length, depth)
        if tag == b"l":
            return values
        if tag == b"t":
            return tuple(values)
        if tag == b"S":
            return set(spread(values))
        if tag == b"Z":
            return frozenset(spread(values))
        if tag == b"d":
            return dict(zip(spread(values[::2]), values[1::2], strict=True))
        if tag == b"r":
            return range(*_integers(values, 3))
        if tag == b"Q":
            return Fraction(*_integers(values, 2))
        return iter(values)


def spread(keys: Sequence[Any]) -> Sequence[Any]:
    """The same keys, unless so many have one hash that a table of them takes for ever.

    Raises:
        Refused: they have.
        TypeError: one has no hash.
    """
    if len(keys) <= _MAX_SAME_HASH:
        return keys
    if Counter(map(hash, keys)).most_common(1)[0][1] > _MAX_SAME_HASH:
        raise Refused(f"more than {_MAX_SAME_HASH} keys have the same hash")
    return keys


def _integers(values: Sequence[Any], count: int) -> Sequence[int]:
    """The same values, where they are `count` integers that are not huge."""
    if len(values) != count or any(type(value) is not int for value in values):
        raise Refused(f"expected {count} integers")
    if any(value.bit_length() > _MAX_QUADRATIC_BITS for value in values):
        raise Refused(f"an integer of more than {_MAX_QUADRATIC_BITS} bits where none belongs")
    return values


def _refuse_reference(reference: Reference) -> Any:
    raise Refused(f"a {reference.type_name} is not a plain value")


def decode(data: bytes, resolve: Callable[[Reference], Any] | None = None) -> Any:
    """Decode what `encode` wrote, or anything else.

    Args:
        data: the bytes.
        resolve: what stands for a reference; without it one is refused.

    Raises:
        Refused: the bytes are not an encoded value.
    """
    decoder = Decoder(data, resolve or _refuse_reference)
    try:
        value = decoder.decode(0)
    except Refused:
        raise
    except (TypeError, ValueError, ArithmeticError, struct.error, LookupError) as error:
        raise Refused(f"the bytes do not decode: {type(error).__name__}: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise Refused("the bytes are nested too deep or too large") from error
    if decoder.position != len(data):
        raise Refused("there are bytes after the value")
    return value


def frames(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Cut a stream into frames: four bytes of length, then the body.

    Args:
        read: `read(n)` gives at most `n` bytes, and none at the end.

    Raises:
        Refused: a frame announces more than `MAX_BYTES`, or the stream ends within one.
    """
    buffer = bytearray()
    while True:
        while len(buffer) < 4:
            piece = read(65536)
            if not buffer and len(piece) - 4 == int.from_bytes(piece[:4], "big"):
                yield piece[4:]  # most come in one piece
                continue
            if not piece:
                if buffer:
                    raise Refused("the stream ended within a frame")
                return
            buffer += piece
        length = _U32.unpack(buffer[:4])[0]
        if length > MAX_BYTES + 1024:
            raise Refused(f"a frame announces {length} bytes")
        while len(buffer) < 4 + length:
            piece = read(min(4 + length - len(buffer), 1 << 20) or 1)
            if not piece:
                raise Refused("the stream ended within a frame")
            buffer += piece
        yield bytes(buffer[4 : 4 + length])
        del buffer[: 4 + length]


def frame(body: bytes) -> bytes:
    """The bytes of one frame."""
    return _U32.pack(len(body)) + body
