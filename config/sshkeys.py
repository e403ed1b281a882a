"""Whether a line can be a public key in authorized_keys (sshd(8)). Pure.

What is wrong is said without the line: people paste the private key, too.
"""

import base64
import re
from itertools import pairwise

_PARTS = {
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
    "ssh-dss": 5,
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ssh-ed25519@openssh.com": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
}
"""The kinds of keys, with the number of strings that one consists of (RFC 4253 section 6.6, RFC 5656, RFC 8709)."""
_ED25519_BYTES = 32

_PRIVATE = re.compile("BEGIN [A-Z0-9 ]*PRIVATE KEY|PRIVATE KEY ?--|PuTTY-User-Key-File|b3BlbnNzaC1rZXktdjE")
"""What private keys begin with: PEM, PuTTY, and OpenSSH's own without its first line. The comment of a public key may
hold the words alone."""
_WORD = re.compile(r'(?:"(?:\\"|[^"])*"|[^\s"])+')
_PATH = re.compile(r"(?:[/~.]\S*|\S*\.pub)")
_BEGIN = "AAAA"
"""What the base64 of every public key begins with: the length of its kind, below 2^8."""

LIKE = "ssh-ed25519 AAAA... you@host"
_PUBLIC = f"write the line of the file that ends in .pub, such as {LIKE}"


def is_private(text: str) -> bool:
    """Whether a text is a private key, or the beginning of one.

    >>> is_private("-----BEGIN OPENSSH PRIVATE KEY----- ..."), is_private("ssh-ed25519 AAAA...")
    (True, False)
    """
    return _PRIVATE.search(text) is not None


def problem(line: str) -> str | None:
    """Return what is wrong with a line of authorized_keys, and what is allowed; None if it is right.

    An empty line and a comment are right: sshd passes over them.

    >>> problem("/root/.ssh/id_ed25519.pub")
    'this is the path of a file; write the line that is in it, such as ssh-ed25519 AAAA... you@host'
    """
    if is_private(line):
        return f"this is a private key, which nobody but its owner may see; {_PUBLIC}, and make a new pair"
    if not line.strip() or line.lstrip().startswith("#"):
        return None
    words = _WORD.findall(line)
    if len(words) == 1 and len(line) <= 100 and _PATH.fullmatch(line.strip()):
        return f"this is the path of a file; write the line that is in it, such as {LIKE}"
    for kind, key in pairwise(words[:3]):  # options may stand in front
        if key.startswith(_BEGIN):
            return _damage(kind, key)
    if words and words[0].startswith(_BEGIN):
        return f"the kind of this key is missing in front of it; {_PUBLIC}"
    if words and words[0] in _PARTS:
        return f"what follows {words[0]} is no key; {_PUBLIC}"
    return f"this is no public key of SSH; {_PUBLIC}"


def _damage(kind: str, key: str) -> str | None:
    try:
        blob = base64.b64decode(key, validate=True)
    except ValueError:  # no base64, or no ASCII
        blob = b""
    parts = _strings(blob)
    inner = parts[0].decode("ascii", "replace") if parts else _BEGIN
    if parts and inner != kind and inner.isprintable() and len(inner) <= 40:
        return f"what stands in front of this key is not its kind, which is {inner!r}; copy it again"
    if inner in _PARTS:
        size = sum(4 + len(part) for part in parts)
        whole = len(parts) == _PARTS[inner] and size == len(blob)
        if not whole or (inner == "ssh-ed25519" and len(parts[1]) != _ED25519_BYTES):
            return f"this key is damaged or cut off; copy it again, all of it in one line: {LIKE}"
    elif not parts:
        return f"this key is damaged or cut off; copy it again, all of it in one line: {LIKE}"
    return None


def _strings(blob: bytes) -> list[bytes]:
    """The strings of a key, each with its length in front of it, as far as they are whole (RFC 4251 section 5)."""
    out, at = [], 0
    while at + 4 <= len(blob):
        end = at + 4 + int.from_bytes(blob[at : at + 4], "big")
        if end > len(blob):
            break
        out.append(blob[at + 4 : end])
        at = end
    return out
