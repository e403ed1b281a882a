r"""ISC dhcpd's lease file (dhcpd.leases(5)). Pure.

    lease 10.77.0.99 {
      starts 6 2026/11/21 14:00:00;
      ends 6 2026/11/21 15:00:00;
      binding state active;
      hardware ethernet 52:54:00:12:34:56;
      uid "\001RT\000\0224V";
    }

A later block of an address replaces an earlier one. Times are UTC, `epoch` and seconds, or `never`. Blocks that are
not leases (hosts, failover) are passed over.
"""

import re
from bisect import bisect
from calendar import timegm
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from dhcp.formats.found import Found, Mistake, NotThisFormat, address, hardware, identity, number, octets, quarantined
from dhcp.leases import NEVER, Lease, State

_TOKEN = re.compile(
    r"""[ \t\r\n]+ | \#[^\n]* | (?P<string>"(?:[^"\\\n]|\\[^\n])*") | (?P<mark>[{};]) | (?P<word>[^\s{};"#]+)
    | (?P<bad>.)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)")
_OVER = frozenset(("free", "expired", "released", "backup", "reset"))


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Statement(NamedTuple):
    """Words up to a `;`, or up to a `{` (`opens`); with neither, the end of a block or of the file."""

    words: tuple[_Token, ...]
    opens: bool
    closes: bool


class _Text:
    """The file as statements, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._tokens = self._split()
        self._again: _Token | None = None

    def _split(self) -> Iterator[_Token]:
        for match in _TOKEN.finditer(self._text):
            if match.lastgroup is not None:
                yield _Token(match.lastgroup, match.group(), match.start())

    def row(self, at: int) -> int:
        """Return the number of the line."""
        return bisect(self._newlines, at - 1) + 1 if at else 1

    def begins_line(self, token: _Token) -> bool:
        """Return whether a token stands at the very beginning of a line, as only blocks do."""
        return token.at == 0 or self._text[token.at - 1] == "\n"

    def statement(self) -> _Statement | None:
        """Return the next one, None at the end. A `lease` that begins a line ends whatever was not finished."""
        words: list[_Token] = []
        while True:
            token = self._again or next(self._tokens, None)
            self._again = None
            if token is None:
                return _Statement(tuple(words), opens=False, closes=False) if words else None
            if words and token.text == "lease" and self.begins_line(token):
                self._again = token
                return _Statement(tuple(words), opens=False, closes=False)
            if token.kind == "mark":
                return _Statement(tuple(words), opens=token.text == "{", closes=token.text == "}")
            words.append(token)


def read(data: bytes, *, by_client_id: bool = False) -> Found:
    """Return what is in a lease file. Raises `NotThisFormat`."""
    found = Found()
    text = _Text(data.decode("latin-1"))
    statement = text.statement()
    blocks = 0
    while statement is not None:
        words = statement.words
        if statement.opens and len(words) == 2 and words[0].text == "lease":
            blocks += 1
            statement = _block(text, words[0], words[1].text, found, by_client_id)
            continue
        if statement.opens:
            found.left_out[f"{words[0].text[:20]!r} blocks" if words else "nameless blocks"] += 1
            statement = _skip(text)
            continue
        if words and words[0].text == "lease":
            found.mistakes.append((text.row(words[0].at), "a lease without a block"))
        elif any(word.kind == "bad" for word in words):
            found.mistakes.append((text.row(words[0].at), "a quotation mark that is not closed"))
        statement = text.statement()
    if not blocks and data.strip() and not re.search(rb"^(#|authoring-byte-order|server-duid)", data, re.MULTILINE):
        raise NotThisFormat("it has no `lease ADDRESS { ... }`, as dhcpd writes it")
    return found


def _is_lease(statement: _Statement, text: _Text) -> bool:
    words = statement.words
    return statement.opens and len(words) == 2 and words[0].text == "lease" and text.begins_line(words[0])


def _skip(text: _Text) -> _Statement | None:
    """Pass over a block, and return the statement after it; a lease at the beginning of a line ends it too."""
    depth = 1
    while depth and (statement := text.statement()) is not None:
        if _is_lease(statement, text):
            return statement
        depth += statement.opens - statement.closes
    return text.statement()


def _block(text: _Text, start: _Token, where: str, found: Found, by_client_id: bool) -> _Statement | None:
    """Take one lease, and return the statement after it."""
    facts: dict[str, tuple[_Token, ...]] = {}
    wrong = ""
    while (statement := text.statement()) is not None:
        if _is_lease(statement, text):
            found.mistakes.append((text.row(start.at), f"lease {where[:60]!r} is not closed"))
            return statement
        if any(word.kind == "bad" for word in statement.words):
            wrong = "a quotation mark that is not closed"
        if statement.closes:
            break
        if statement.opens:
            if (after := _skip_inside(text)) is not None:
                found.mistakes.append((text.row(start.at), f"lease {where[:60]!r} is not closed"))
                return after
        elif statement.words:
            key = statement.words[0].text
            facts["binding state" if key == "binding" else key] = statement.words[2 if key == "binding" else 1 :]
    try:
        if wrong or statement is None:
            raise Mistake(wrong or f"lease {where[:60]!r} is not closed")
        _take(found, where, facts, by_client_id)
    except Mistake as mistake:
        found.mistakes.append((text.row(start.at), str(mistake)))
    return text.statement()


def _skip_inside(text: _Text) -> _Statement | None:
    """Pass over a block inside a lease (`on expiry { ... }`); return the lease that begins before it has ended."""
    depth = 1
    while depth and (statement := text.statement()) is not None:
        if _is_lease(statement, text):
            return statement
        depth += statement.opens - statement.closes
    return None


def _take(found: Found, text: str, facts: dict[str, tuple[_Token, ...]], by_client_id: bool) -> None:
    where = address(text)
    words = facts.get("binding state", ())
    state = "abandoned" if "abandoned" in facts else words[0].text if words else "active"
    expires = _time(facts.get("ends", ()))
    if state == "abandoned":
        found.take(quarantined(where, expires))
        return
    if state not in _OVER | {"active", "bootp"}:
        raise Mistake(f"binding state {state[:60]!r}")
    uid = facts.get("uid", ())
    card = facts.get("hardware", ())
    if not uid and not card and state in _OVER:
        found.leases.pop(where, None)
        found.left_out["never used"] += 1
        return
    mac = hardware(card[1].text) if len(card) == 2 else ""
    client, mac = identity(mac, _bytes(uid[0]) if uid else b"", by_client_id=by_client_id)
    if state in _OVER:
        found.take(Lease(where, client, 0 if expires == NEVER else expires, State.RELEASED, mac))
    else:
        found.take(Lease(where, client, expires, State.BOUND, mac))


def _time(words: tuple[_Token, ...]) -> int:
    match [word.text for word in words]:
        case ["never"]:
            return NEVER
        case ["epoch", seconds]:
            return number(seconds, "epoch")
        case [_, day, clock]:
            try:
                return timegm(datetime.strptime(f"{day} {clock}", "%Y/%m/%d %H:%M:%S").timetuple())
            except ValueError:
                raise Mistake(f"{f'{day} {clock}'[:60]!r} is no time such as 2026/11/21 14:00:00") from None
        case []:
            raise Mistake("it does not say when it ends")
        case other:
            raise Mistake(f"{' '.join(other)[:60]!r} is no time")


def _bytes(token: _Token) -> bytes:
    """Return a client identifier: a string with octal escapes, or hexadecimal numbers. Raises `Mistake`."""
    if token.kind != "string":
        return octets(token.text)

    def plain(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code, 8) & 0xFF) if code[0] in "01234567" else code

    return _ESCAPE.sub(plain, token.text[1:-1]).encode("latin-1")
