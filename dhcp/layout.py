"""Where the options of a message are, so that the next one alike need not be parsed to know it. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter

from dhcp.options import Option
from dhcp.wire import END, MAGIC_COOKIE, OVERLOAD, PAD

_COOKIE_AT = 236
_OPTIONS_AT = 240
_ETHERNET_REQUEST = bytes((1, 1, 6))
_NOWHERE = bytes(4)
_REQUESTED, _CLIENT_ID, _UUID = 50, 61, 97
_SIZES = {_REQUESTED: 4, _CLIENT_ID: 0, _UUID: 17}
"""Options that each machine has a value of its own of, and how long that has to be; 0: not empty."""
_ABSENT = slice(0)
_NOT_HERE = frozenset((OVERLOAD, int(Option.CLIENT_FQDN)))


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the values are that differ from machine to machine, in messages of one length.

    Whatever says where an option begins and ends is among the fixed bytes. So a message of this length whose fixed
    bytes are those of another, with values of the same `sizes`, has every option in the same place.
    """

    fixed: Callable[[bytes], tuple[bytes, ...]]
    """Returns all that an answer can hang on, but for the values below and the MAC."""
    sizes: bytes
    """How long the values below are, in their order in the message."""
    requested: slice
    """The value of option 50, without its code and length; empty if there is none."""
    client_id: slice
    """Of option 61."""
    uuid: slice
    """Of option 97."""


def layout_of(data: bytes) -> Layout | None:
    """Return where a message has its options.

    None if it is no message of an Ethernet client without an address, if one of the options that differ comes
    twice, or if anything about the options is unusual: 52, 81, a length that lies.
    """
    if data[:3] != _ETHERNET_REQUEST or data[12:16] != _NOWHERE or data[_COOKIE_AT:_OPTIONS_AT] != MAGIC_COOKIE:
        return None
    at, begin, size = _OPTIONS_AT, _COOKIE_AT, len(data)
    values: dict[int, slice] = {}
    fixed = [slice(0, 3), slice(10, 16), slice(24, 28)]  # op, htype, hlen; flags, ciaddr; giaddr
    while at < size:
        code = data[at]
        if code == END:
            fixed.append(slice(begin, at + 1))
            places = (values.get(code, _ABSENT) for code in (_REQUESTED, _CLIENT_ID, _UUID))
            return Layout(itemgetter(*fixed), bytes(place.stop - place.start for place in values.values()), *places)
        if code == PAD:
            at += 1
            continue
        if at + 1 >= size:
            return None
        value, end = at + 2, at + 2 + data[at + 1]
        if end > size or code in values or code in _NOT_HERE:
            return None
        if code in _SIZES:
            if end == value or _SIZES[code] not in (0, end - value):
                return None
            values[code] = slice(value, end)
            fixed.append(slice(begin, value))
            begin = end
        at = end
    return None
