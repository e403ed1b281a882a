"""DHCP options as people write them: by name or number, with values of their type ⇄ number and bytes. Pure.

A name takes a value of its type. So does a number, but there text is hex when it can be, as it always was:
`67: 636f72652e656669`. It can be if the bytes make sense for that option. What might be hex or something else is
refused: `26: 1500` is 1500, or the bytes 15 00? `67: cafe` is a file's name, or two bytes? `164: 12`, of an option
without a type, is twelve, or the byte 12? A mapping with the name of a type says which, in every place:
`{hex: 05dc}`, `{text: cafe}`, `{ip: 10.28.0.1}`, `{uint16: 1500}`. Sub-options have types by name only; under a number
they are hex or say their type. An empty value takes away what a less specific place said.
"""

import re
from collections.abc import Iterable, Mapping

from config import optiontext, optiontypes
from config.mistakes import shown, suggestion
from config.optiontable import CATALOGUE, OPTIONS, SPACES, Definition
from config.optiontypes import ADDRESSES, MAPPINGS, NUMBERS, TEXTS, THE_WORDS, WORDS, WRITTEN, Kind

OWN_OPTIONS = frozenset((1, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 61, 80, 82, 118))
"""Options that the protocol itself decides for each answer; a configuration cannot set them.

80 (RFC 4039) and 118 (RFC 3011) belong here since a server sends them only to a client that did."""

MOST_BYTES = 1024
"""The longest option that still leaves room for what a client needs in a reply of 1,472 bytes."""

PXE_SPACE, END = 43, 255

_EMPTY: tuple[object, ...] = (None, "", [], (), {})
_UNLISTED = "option-"
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF: ")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,9}")
"""A number as people write it: not 00010203, and not more than fits four bytes."""
_DISCOVERY_CONTROL, _BOOT_MENU = 6, 9


def _names(rows: Iterable[Definition]) -> Mapping[str, int]:
    return {name: row.code for row in rows for name in (row.name, *row.also)}


_CODES = _names(OPTIONS)


def name_of(code: int) -> str:
    """Return an option's name, and `option-224` for one that has none.

    >>> name_of(6), name_of(224)
    ('domain-name-servers', 'option-224')
    """
    definition = CATALOGUE.get(code)
    return definition.name if definition else f"{_UNLISTED}{code}"


def code_of(name: str | int) -> int | None:
    """Return the number of an option that is given by name or number, None if there is no such option.

    >>> code_of("domain_name_servers"), code_of("150"), code_of("nonsense")
    (6, 150, None)
    """
    word = str(name).strip().lower().replace("_", "-")
    digits = word.removeprefix(_UNLISTED)
    if digits.isdecimal() and digits.isascii():
        return int(digits) if len(digits) <= 3 and 1 <= int(digits) <= 254 else None
    return _CODES.get(word)


def number_of(name: str | int) -> int:
    """Return the number of an option that a configuration names.

    Raises `ValueError` with the nearest known name if there is none.
    """
    code = code_of(name)
    if code is None:
        word = str(name).strip().lower().replace("_", "-")
        if word.removeprefix("-").isdecimal():
            raise ValueError(f"{word} is not the number of an option; allowed: 1 to 254")
        raise ValueError(
            f"there is no option {shown(str(name))}; write a name such as routers, or a number"
            f"{suggestion(word, _CODES)}"
        )
    return code


def encode(key: str | int, value: object) -> tuple[int, bytes]:
    """Return the number and the bytes of an option; no bytes for an empty value.

    Raises `ValueError` with what is wrong, what is allowed and perhaps what was meant.

    >>> encode("ntp-servers", ["10.28.0.1"]), encode(150, "0a1c0002"), encode("mtu", "")
    ((42, b'\\n\\x1c\\x00\\x01'), (150, b'\\n\\x1c\\x00\\x02'), (26, b''))
    """
    code = number_of(key)
    label = f"option {code} ({name_of(code)})" if code in CATALOGUE else f"option {code}"
    by_number = str(key).strip().isdecimal()
    if code in OWN_OPTIONS:
        reserved = ", ".join(map(str, sorted(OWN_OPTIONS - {code})))
        own = f"option {code}" if by_number else label
        raise ValueError(f"{own} is decided by the server for each answer, as are {reserved}")
    if value in _EMPTY or (isinstance(value, str) and not value.strip()):
        return code, b""
    definition = CATALOGUE.get(code) or Definition(code, name_of(code), Kind.BINARY)
    try:
        is_either = isinstance(value, str) and (by_number or code not in CATALOGUE)
        data = _by_number(definition, str(value)) if is_either else _encode(definition, value)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    if len(data) > MOST_BYTES:
        raise ValueError(f"{label} has {len(data)} bytes; at most {MOST_BYTES} are possible")
    return code, data


def decode_value(code: int, data: bytes) -> str:
    """Return an option's value on one line, for people. It takes any bytes, and escapes what is not printable.

    >>> decode_value(3, bytes((10, 28, 0, 1))), decode_value(67, b"core.efi\\0"), decode_value(3, b"\\n\\x1c")
    ('10.28.0.1', "'core.efi\\\\x00'", '0a 1c')
    """
    definition = CATALOGUE.get(code)
    if definition is None or not data:
        return optiontext.printable(optiontext.plain(data))
    if definition.kind is Kind.CODES:
        return optiontext.printable(", ".join(map(name_of, data)))
    found = optiontext.text_of(definition, data)
    if found is None and definition.kind in TEXTS:
        found = repr(data.decode("utf-8", "backslashreplace"))
    return optiontext.printable(optiontext.plain(data) if found is None else found)


def _by_number(definition: Definition, text: str) -> bytes:
    """Encode text that stands under a number: hex, or a value of the option's type.

    It is hex when the bytes make sense for that option, and would be for no other reason.
    """
    ways = _ways(definition, text.strip())
    try:
        raw = optiontypes.raw(text)
    except ValueError as no_hex:
        try:
            typed = _encode(definition, text)
        except ValueError:
            if definition.kind in ADDRESSES and set(text) <= _HEX_DIGITS:
                raise no_hex from None
            raise
        if definition.kind in WRITTEN and set(text) <= _HEX_DIGITS:
            raise ValueError(f"{text!r} may be a text, or hex with a digit missing; write {ways}") from None
        return typed
    if definition.kind is Kind.BINARY and _DECIMAL.fullmatch(text.strip()):
        raise ValueError(f"{text!r} may be a number, or bytes in hex; write {ways}")
    if definition.kind in TEXTS and text.strip().isdecimal():
        raise ValueError(f"{text!r} may be a text, or bytes in hex; write {ways}")
    sensible = optiontext.text_of(definition, raw) is not None
    try:
        typed = _encode(definition, text)
    except ValueError:
        if sensible:
            return raw
        allowed = f"write {definition.kind.value}, or {{hex: {text}}} if they are meant"
        raise ValueError(f"the bytes {raw.hex(' ')} are none that it can have; {allowed}") from None
    if not sensible and definition.kind in WRITTEN:
        raise ValueError(f"{text!r} may be a text, or bytes in hex; write {ways}")
    if not sensible:
        return typed
    if typed != raw and definition.kind in NUMBERS:
        raise ValueError(f"{text!r} may be {definition.kind.value}, or bytes in hex; write {ways}")
    return raw


def _ways(definition: Definition, text: str) -> str:
    """The ways to write a text that may be hex or something else, so that it is only one of both."""
    meant = f"{definition.name}: {text}"
    if definition.kind in TEXTS:
        meant = f"{{text: {text}}}"
    elif definition.kind is Kind.BINARY and text.isdecimal():
        size = next((bits for bits in (8, 16, 32) if int(text) < 2**bits), 32)
        meant = f"{{uint{size}: {text}}}"
    return f"{meant}, or {{hex: {text}}}"


def _encode(definition: Definition, value: object) -> bytes:
    """Encode a value of the option's type, or one that says its type itself."""
    if isinstance(value, Mapping) and len(value) == 1:
        word, inner = next(iter(value.items()))
        if word in WORDS:
            return optiontypes.encode(WORDS[word], inner)
        if definition.kind not in MAPPINGS:
            near = suggestion(str(word), WORDS)
            raise ValueError(f"{shown(word)} is not the word of a type; {THE_WORDS}{near}")
    elif isinstance(value, Mapping) and definition.kind not in MAPPINGS:
        raise ValueError(f"a mapping is one word and its value, such as {{uint8: 64}}; {THE_WORDS}")
    if definition.kind is Kind.BINARY:
        try:
            return optiontypes.raw(value)
        except ValueError as error:
            raise ValueError(f"{error}, or {{text: ...}}; {THE_WORDS}") from None
    match definition.kind:
        case Kind.SPACE:
            return _space(definition.code, value)
        case Kind.VENDOR_SPACES:
            return _vendor_spaces(value)
        case kind:
            return optiontypes.encode(kind, value, definition.least)


def _space(code: int, value: object) -> bytes:
    """Encode sub-options, in the order in which they are written, or the hex of all of them.

    END (255) ends them if `end: true` or one of PXE's names stands there: PXE asks for it, other vendors do not.

    PXE's without discovery control and menu are refused: EDK2 then looks for boot servers by broadcast, finds none,
    and gives up its network boot (PXE-E21). 8 says that the boot file is in this very reply.
    """
    if isinstance(value, str):
        return optiontypes.raw(value)
    known = SPACES.get(code, {})
    names = _names(known.values())
    out, end, by_pxe, subs = b"", False, False, set[int]()
    for key, inner in optiontypes.mapping(value, Kind.SPACE).items():
        word = str(key).strip().lower().replace("_", "-")
        if word in ("end", str(END)):
            end = inner in _EMPTY or optiontypes.encode(Kind.FLAG, inner) == b"\1"
            continue
        by_name = known[names[word]] if word in names else None
        sub = by_name.code if by_name else _sub_code(key, names)
        by_pxe = by_pxe or (by_name is not None and code == PXE_SPACE)
        end = end or (by_name is not None and code == PXE_SPACE)
        subs.add(sub)
        out += bytes((sub,)) + optiontypes.framed(_sub_option(by_name, key, inner), f"sub-option {key}")
    if by_pxe and not subs & {_DISCOVERY_CONTROL, _BOOT_MENU}:
        why = "firmware would look for other boot servers, and end its network boot (PXE-E21)"
        raise ValueError(f"PXE's sub-options need discovery-control; add `discovery-control: 8`. Without it, {why}")
    return out + bytes((END,)) * end


def _sub_code(key: object, names: Mapping[str, int]) -> int:
    word = str(key).strip()
    if word.isdecimal() and word.isascii() and len(word) <= 3 and 1 <= int(word) <= 254:
        return int(word)
    listed = f", or one of {', '.join(names)}" if names else ""
    raise ValueError(
        f"{shown(key)} is not a sub-option; write a number from 1 to 254{listed}{suggestion(word, names)}"
    )


def _sub_option(definition: Definition | None, key: object, value: object) -> bytes:
    """Encode one sub-option: of its type under its name; under a number, hex or a value that says its type."""
    try:
        if value in _EMPTY:
            return b""
        return _encode(definition or Definition(0, "", Kind.BINARY), value)
    except ValueError as error:
        raise ValueError(f"sub-option {key}: {error}") from None


def _vendor_spaces(value: object) -> bytes:
    """Option 125 (RFC 3925 section 4): for each enterprise, the length of its sub-options, and those."""
    out = b""
    for number, inner in optiontypes.mapping(value, Kind.VENDOR_SPACES).items():
        packed = optiontypes.enterprise(number)
        inside = inner if isinstance(inner, str) else optiontypes.mapping(inner, Kind.SPACE)
        out += packed + optiontypes.framed(_space(0, inside), f"enterprise {number}")
    return out
