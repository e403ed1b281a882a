"""Which options of a request we accept, and with what values (RFC 2347, 2348, 2349, 7440).

An answer names only options that the client asked for, in lower case, with values that are lower or equal: EDK2
refuses any other, GRUB compares case (TQ2, TQ7). A value that is no plain decimal number or is outside its RFC's
limits counts as if the option were not there; it is never echoed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tftp.errors import UnknownMode
from tftp.wire import ReadRequest

BLKSIZE_DEFAULT = 512  # RFC 1350 section 2
BLKSIZE_LIMITS = (8, 65464)  # RFC 2348
TIMEOUT_LIMITS = (1, 255)  # RFC 2349, seconds
WINDOWSIZE_LIMITS = (1, 65535)  # RFC 7440 section 3
WINDOW_CAP = 128 * 1024  # bytes on the way at once, per transfer
HEADERS = 20 + 8 + 4  # IPv4, UDP and TFTP, in bytes


@dataclass(frozen=True, slots=True)
class Terms:
    """What a transfer is run by. `accepted` is the OACK; when it is empty, none is sent."""

    blksize: int = BLKSIZE_DEFAULT
    windowsize: int = 1
    timeout_s: int | None = None
    """The client's wish; None: the timer adapts to the answers."""
    accepted: Mapping[str, str] = field(default_factory=dict)
    rollover: int = 0
    """The block number that follows 65535. RFC 1350 names none; 0 is what nearly all clients expect (T-08)."""


def is_netascii(request: ReadRequest) -> bool:
    """Return whether the content is to be converted. Raises `UnknownMode` unless the mode is octet or netascii."""
    if request.mode not in {"octet", "netascii"}:
        raise UnknownMode(f"asked for mode {request.mode!r}")
    return request.mode == "netascii"


@dataclass(frozen=True, slots=True)
class Most:
    """The most that we grant, whatever is asked; `rollover` goes into the terms as it is."""

    blksize: int = BLKSIZE_LIMITS[1]
    windowsize: int = 64  # blocks
    rollover: int = 0


def negotiate(request: ReadRequest, size_bytes: int, mtu: int, most: Most = Most()) -> Terms:
    """Return the terms for sending `size_bytes` over a path of `mtu` bytes.

    blksize is held to what fits one packet of the path, since firmware loses fragments (TQ5), and the window to
    `WINDOW_CAP` bytes, so that no request makes us keep gigabytes on the way (A-27). tsize is not offered for
    netascii (T-15: its size is not that of the file).
    """
    asked = request.options
    accepted: dict[str, str] = {}
    blksize, windowsize, timeout_s = BLKSIZE_DEFAULT, 1, None
    for name in asked:  # in the client's order, as a courtesy to anyone who reads a capture
        match name:
            case "blksize" if (number := _number(asked[name], BLKSIZE_LIMITS)) is not None:
                blksize = max(BLKSIZE_LIMITS[0], min(number, most.blksize, mtu - HEADERS))
                accepted[name] = str(blksize)
            case "timeout" if (number := _number(asked[name], TIMEOUT_LIMITS)) is not None:
                timeout_s = number
                accepted[name] = str(number)
            case "tsize" if _number(asked[name], (0, 2**64)) is not None and not is_netascii(request):
                accepted[name] = str(size_bytes)
            case "windowsize" if (number := _number(asked[name], WINDOWSIZE_LIMITS)) is not None:
                windowsize = min(number, most.windowsize)
                accepted[name] = ""  # keeps its place; its value depends on blksize, which may come later
    windowsize = max(1, min(windowsize, WINDOW_CAP // blksize))
    if "windowsize" in accepted:
        accepted["windowsize"] = str(windowsize)
    return Terms(blksize, windowsize, timeout_s, accepted, most.rollover)


def _number(text: str, limits: tuple[int, int]) -> int | None:
    """Return the plain decimal number `text`, or None if it is none or outside `limits`.

    Signs, blanks, digits of other scripts and anything longer than 20 digits are no numbers (A-28).
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        return None
    number = int(text)
    return number if limits[0] <= number <= limits[1] else None
