"""Screenshots that are small: 256 colours are enough for a page, and a third of the bytes."""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}
MOST_COLOURS = 256


def chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and content of each chunk."""
    at = len(SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return one chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def rows(png: bytes) -> tuple[int, int, list[bytes]]:
    """Return width, height, and the pixels of each row as RGB. Raises `ValueError` for kinds no browser writes."""
    head, packed = b"", b""
    for kind, content in chunks(png):
        if kind == b"IHDR":
            head = content
        elif kind == b"IDAT":
            packed += content
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    if depth != 8 or colour not in _CHANNELS or interlaced:
        raise ValueError(f"colour type {colour}, {depth} bits")
    step = _CHANNELS[colour]
    raw, stride, before, out = zlib.decompress(packed), width * step, bytes(width * step), []
    for number in range(height):
        at = number * (stride + 1)
        before = _unfiltered(raw[at], bytearray(raw[at + 1 : at + 1 + stride]), before, step)
        pixels = bytearray(width * 3)
        for channel in range(3):
            pixels[channel::3] = before[channel::step]
        out.append(bytes(pixels))
    return width, height, out


def _unfiltered(kind: int, row: bytearray, above: bytes, step: int) -> bytes:
    """Undo a row's filter (PNG specification, section 9)."""
    for at in range(len(row)) if kind else ():
        left = row[at - step] if at >= step else 0
        corner = above[at - step] if at >= step else 0
        match kind:
            case 1:
                guess = left
            case 2:
                guess = above[at]
            case 3:
                guess = (left + above[at]) // 2
            case _:
                middle = left + above[at] - corner
                guess = min((left, above[at], corner), key=lambda one, m=middle: abs(m - one))  # type: ignore[misc] # mypy knows no defaults of a lambda
        row[at] = (row[at] + guess) & 255
    return bytes(row)


def smaller(png: bytes) -> bytes:
    """Return the same picture with the 256 colours that it uses most; others become the nearest of these."""
    width, height, lines = rows(png)
    count = Counter(line[at : at + 3] for line in lines for at in range(0, len(line), 3))
    palette = [colour for colour, _ in count.most_common(MOST_COLOURS)]
    number = {colour: place for place, colour in enumerate(palette)}
    for colour in count:
        if colour not in number:
            number[colour] = min(
                range(len(palette)),
                key=lambda place, c=colour: sum((a - b) ** 2 for a, b in zip(c, palette[place], strict=True)),  # type: ignore[misc] # as above
            )
    raw = b"".join(b"\0" + bytes(number[line[at : at + 3]] for at in range(0, len(line), 3)) for line in lines)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return SIGNATURE + b"".join(
        (
            chunk(b"IHDR", head),
            chunk(b"PLTE", b"".join(palette)),
            chunk(b"IDAT", zlib.compress(raw, 9)),
            chunk(b"IEND", b""),
        )
    )
