"""The conditions of a dhcpd.conf by which people tell firmware apart → architectures, as far as they are that. Pure.

if option arch = 00:07 or option arch = 00:09 { filename "ipxe.efi"; }
match if substring (option vendor-class-identifier, 0, 9) = "PXEClient";
"""

import re
from collections.abc import Mapping, Sequence

from config.architectures import BY_CODE, IPXE
from config.dhcpoptions import code_of
from pxeboot.imports.dhcpd_text import Word

EVERYBODY = "*"
_ARCHITECTURE, _VENDOR_CLASS, _USER_CLASS, _IPXE_SPACE = 93, 60, 77, 175
_NUMBER = re.compile("[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2})?|[0-9]{1,5}")
_CLASS = re.compile("(?:PXE|HTTP)Client(?::Arch:(?P<arch>[0-9]{5}).*)?")
_PLACE_OF_NUMBER = 15
"""Where the number stands in `PXEClient:Arch:00007:UNDI:003016`; of HTTPClient one later."""


def who(words: Sequence[Word], codes: Mapping[str, int]) -> frozenset[str] | None:
    """Return the architectures that a condition is true for; `EVERYBODY` if that is every machine that boots.

    `codes` are the options that the file defines. None: the condition is about something else.
    """
    tokens = [word for word in words if word.quoted or word.text not in "()"]
    found: frozenset[str] = frozenset()
    for either in _split(tokens, "or"):
        meant = frozenset((EVERYBODY,))
        for part in _split(either, "and"):
            one = _one(part, codes)
            if one is None:
                return None
            meant = one if meant == {EVERYBODY} else meant if one == {EVERYBODY} else meant & one
        found |= meant
    return found or None


def _split(tokens: Sequence[Word], word: str) -> list[list[Word]]:
    parts: list[list[Word]] = [[]]
    for token in tokens:
        if not token.quoted and token.text.lower() == word:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _one(part: Sequence[Word], codes: Mapping[str, int]) -> frozenset[str] | None:
    """One comparison, or `exists`."""
    texts = [token.text for token in part]
    if len(texts) == 2 and texts[0] == "exists":
        code = _code(texts[1], codes)
        if code == _IPXE_SPACE or texts[1].startswith(("ipxe.", "gpxe.")):
            return frozenset((IPXE,))
        return frozenset((EVERYBODY,)) if code in (_ARCHITECTURE, _VENDOR_CLASS, _USER_CLASS) else None
    if "=" not in texts or texts.count("=") > 1:
        return None
    at = texts.index("=")
    left, right = texts[:at], part[at + 1 :]
    if len(right) != 1 or "option" not in left:
        return None
    code = _code(left[left.index("option") + 1] if left.index("option") + 1 < len(left) else "", codes)
    offset = _offset(left)
    value = right[0].text
    match code:
        case 93 if not right[0].quoted and _NUMBER.fullmatch(value):
            digits = value.replace(":", "")
            return _named(int(digits, 16) if ":" in value else int(value))
        case 77 if value.lower() in ("ipxe", "gpxe"):
            return frozenset((IPXE,))
        case 60 if offset in (_PLACE_OF_NUMBER, _PLACE_OF_NUMBER + 1) and value.isdecimal():
            return _named(int(value))
        case 60 if not offset:
            found = _CLASS.fullmatch(value)
            if found is None:
                return None
            return _named(int(found["arch"])) if found["arch"] else frozenset((EVERYBODY,))
        case _:
            return None


def _offset(left: Sequence[str]) -> int | None:
    """The second argument of `substring`, as `substring option NAME , OFFSET , LENGTH` is without its parentheses."""
    numbers = [int(text) for text in left if text.isdecimal() and len(text) < 5]
    return numbers[0] if "substring" in left and len(numbers) == 2 else None


def _code(name: str, codes: Mapping[str, int]) -> int | None:
    return codes.get(name) or code_of({"pxe-system-type": "client-system"}.get(name, name))


def _named(code: int) -> frozenset[str] | None:
    found = BY_CODE.get(code)
    if found is None:
        return None
    return frozenset((found.platform if found.platform and not found.http else found.name,))
