"""Passwords as they are kept: `scrypt$N$R$P$SALT$HASH`, and the file of `NAME:HASH` lines. Blocks on nothing but CPU.

scrypt (RFC 7914) wants 16 MiB and some 50 ms for each try, which is what makes a stolen file slow to guess from.
"""

import hashlib
import hmac
import os
import re
import unicodedata
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass

N, R, P = 1 << 14, 8, 1
"""Cost, block size and parallelism (RFC 7914 section 2)."""
SALT_BYTES = 16
HASH_BYTES = 32
LEAST = 8
"""Characters that a password has at least."""
MOST_MEMORY = 64 * 1024 * 1024
"""A line that wants more for one try is no line of ours."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
"""A person's name. It stands in the log and in what a farm's people see, so it is plain."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one password."""

    n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    def matches(self, password: str) -> bool:
        """Return whether this is the password; takes as long either way."""
        return hmac.compare_digest(_scrypt(password, self.salt, self.n, self.r, self.p), self.digest)

    def __str__(self) -> str:
        salt, digest = (b64encode(part).decode() for part in (self.salt, self.digest))
        return f"scrypt${self.n}${self.r}${self.p}${salt}${digest}"

    def __repr__(self) -> str:
        return "Kept(***)"


def keep(password: str, salt: bytes | None = None) -> Kept:
    """Return what is kept of a password, with a salt of its own."""
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    return Kept(N, R, P, salt, _scrypt(password, salt, N, R, P))


NOBODY = Kept(N, R, P, bytes(SALT_BYTES), bytes(HASH_BYTES))
"""Stands for somebody who is not listed, so that who asks does not learn that by the time it takes."""


def parse(text: str) -> Kept:
    """Return what is kept. Raises `ValueError`, whose text quotes nothing."""
    kind, *rest = text.split("$")
    if kind != "scrypt" or len(rest) != 5:
        raise ValueError("is no hash of `pxeboot user`, which begins with scrypt$")
    try:
        n, r, p = (int(number) for number in rest[:3])
        salt, digest = (b64decode(part, validate=True) for part in rest[3:])
    except (ValueError, Base64Error):
        raise ValueError("is a damaged hash") from None
    if n < 2 or n & (n - 1) or not 1 <= r <= 32 or not 1 <= p <= 4 or 128 * n * r > MOST_MEMORY:
        raise ValueError("has a hash whose cost is out of bounds")
    if len(salt) < 8 or len(digest) != HASH_BYTES:
        raise ValueError("is a damaged hash")
    return Kept(n, r, p, salt, digest)


def parse_file(text: str) -> tuple[dict[str, Kept], list[str]]:
    """Return who is in a file, and what is wrong with it by line; a line that is wrong counts for nobody."""
    people: dict[str, Kept] = {}
    wrong = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, kept = line.strip().partition(":")
        try:
            if not colon or not NAME.fullmatch(name):
                raise ValueError("is not NAME:HASH; `pxeboot user NAME` makes one")
            if name in people:
                del people[name]
                raise ValueError("has a name that was there before, which counts for nobody now")
            people[name] = parse(kept)
        except ValueError as error:
            wrong.append(f"line {number} {error}")
    return people, wrong


def replaced(text: str, name: str, kept: Kept | None) -> str:
    """Return a file's text with the line of `name` set, or taken away with None; all else stays as it is."""
    lines = [line for line in text.splitlines() if line.strip().partition(":")[0] != name]
    if kept is not None:
        lines.append(f"{name}:{kept}")
    return "".join(f"{line}\n" for line in lines)


def is_listed(people: Mapping[str, Kept], name: str, password: str) -> bool:
    """Return whether `name` is there and has this password; costs the same if it is not there."""
    kept = people.get(name)
    right = (kept or NOBODY).matches(password)
    return right and kept is not None


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    secret = unicodedata.normalize("NFC", password).encode()
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=2 * MOST_MEMORY, dklen=HASH_BYTES)
