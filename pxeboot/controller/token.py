"""A bootstrap token: made, derived, and named.

The secret half never prints itself, so that no log line, traceback or test report can show it by accident.
"""

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass, field
from datetime import UTC, datetime

ALPHABET = string.ascii_lowercase + string.digits
FORM = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
SECRET_TYPE = "bootstrap.kubernetes.io/token"
GROUP = "system:bootstrappers:kubeadm:default-node-token"
"""What kubeadm's own roles are bound to; its holder's certificate for any node is approved by the cluster itself."""
MACHINES_GROUP = "system:bootstrappers:pxeboot:machines"
"""What our roles are bound to: asking for a certificate, and reading what kubeadm needs. Nothing approves it."""
BOOT_GROUP = re.compile("system:bootstrappers:pxeboot:boot:([0-9a-f]{16}):([0-9a-f]{16})")
USERNAME = re.compile("system:bootstrap:([a-z0-9]{6})")
"""Who the holder of a bootstrap token is to the API; the group is the token's id."""


class NotAToken(ValueError):
    """What was read is no bootstrap token. The message never holds what was read."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bootstrap token, `id` public and `secret` not: `repr` and `str` leave the secret out."""

    id: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        if not FORM.fullmatch(f"{self.id}.{self.secret}"):
            raise NotAToken("a bootstrap token is six, a dot and sixteen of a-z and 0-9")

    @classmethod
    def make(cls) -> "Token":
        """A new token from the system's random numbers, every one of 36^22 equally likely."""
        return cls(
            id="".join(secrets.choice(ALPHABET) for _ in range(6)),
            secret="".join(secrets.choice(ALPHABET) for _ in range(16)),
        )

    @classmethod
    def derived(cls, seed: str) -> "Token":
        """The token that `seed`, which is random and secret, stands for: always the same one.

        HKDF with SHA-256 (RFC 5869), with a name of its own for each half, so that the id tells nothing of the secret.
        """
        key = hmac.digest(b"pxeboot token of a boot", seed.encode(), hashlib.sha256)
        return cls(id=_letters(key, b"id", 6), secret=_letters(key, b"secret", 16))

    @classmethod
    def parse(cls, text: str) -> "Token":
        """Read `ID.SECRET`. Raises `NotAToken`."""
        match = FORM.fullmatch(text)
        if not match:
            raise NotAToken("a bootstrap token is six, a dot and sixteen of a-z and 0-9")
        return cls(match[1], match[2])

    def reveal(self) -> str:
        """`ID.SECRET`, for the join command and nothing else."""
        return f"{self.id}.{self.secret}"


def _letters(key: bytes, info: bytes, count: int) -> str:
    """Return `count` characters of `ALPHABET` out of `key`, each as likely as any other.

    The bytes of HKDF-Expand (RFC 5869 section 2.3), without those above the last multiple of 36.
    """
    letters, block, number = "", b"", 0
    even = 256 - 256 % len(ALPHABET)
    while len(letters) < count:
        number += 1
        block = hmac.digest(key, block + info + bytes([number]), hashlib.sha256)
        letters += "".join(ALPHABET[byte % len(ALPHABET)] for byte in block if byte < even)
    return letters[:count]


@dataclass(frozen=True, slots=True)
class BootOfNode:
    """What a boot group says: which boot, and the digest of its node's name."""

    boot: str
    node_digest: str


def node_digest(node: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of a node's name: a name may hold a dot, and a group may not."""
    return hashlib.sha256(node.encode()).hexdigest()[:16]


def boot_group(boot: str, node: str) -> str:
    """Return the group that only the token of this boot of this node carries.

    The API server itself attests it in every request made with the token, so a certificate request says by itself
    which boot of which node it may be for.
    """
    return f"system:bootstrappers:pxeboot:boot:{boot}:{node_digest(node)}"


def read_boot_group(group: str) -> BootOfNode | None:
    """Read what `boot_group` wrote; None for any other group."""
    match = BOOT_GROUP.fullmatch(group)
    return BootOfNode(match[1], match[2]) if match else None


def secret_name(token_id: str) -> str:
    """The name that the API demands of the token's Secret in kube-system."""
    return f"bootstrap-token-{token_id}"


def rfc3339(seconds: float) -> str:
    """Seconds since 1970 → RFC 3339 in UTC; a fraction is cut off, so that what expires never does so later.

    >>> rfc3339(1735689600.9)
    '2025-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_rfc3339(text: str) -> float:
    """RFC 3339 → seconds since 1970. Raises `ValueError`, also for a time without its zone.

    >>> parse_rfc3339("2025-01-01T01:00:00+01:00")
    1735689600.0
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("it has no time zone")
    return moment.timestamp()


def hide_tokens(text: str) -> str:
    """Return `text` with the secret half of whatever looks like a token replaced by `<hidden>`.

    >>> hide_tokens("kubeadm join h:6443 --token abcdef.0123456789abcdef now")
    'kubeadm join h:6443 --token abcdef.<hidden> now'
    """
    return re.sub(r"(?<![a-z0-9])([a-z0-9]{6})\.[a-z0-9]{16}(?![a-z0-9])", r"\1.<hidden>", text)
