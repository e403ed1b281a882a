"""The Secret of a bootstrap token, as the stand-in of the API server writes and reads it."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from pxeboot.controller.token import GROUP, NotAToken, Token, parse_rfc3339, rfc3339


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that the cluster knows, from `created` (its API server's clock) until `expires` (ours); seconds
    since 1970."""

    token: Token
    created: float
    expires: float


def secret_data(token: Token, expires: float, description: str) -> dict[str, str]:
    """The keys of the token's Secret, in clear text (its `stringData`).

    It may authenticate and sign cluster-info, and opens what a joining machine needs and no more: the one group
    of kubeadm's default (Kubernetes, "Authenticating with Bootstrap Tokens").
    """
    return {
        "token-id": token.id,
        "token-secret": token.secret,
        "expiration": rfc3339(expires),
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": GROUP,
        "description": description,
    }


def read_secret(data: Mapping[str, str], created: float) -> IssuedToken:
    """Return the token in a Secret's `data`, whose values are base64.

    Raises `NotAToken` when a key is missing or malformed, when it never expires or may not authenticate: no
    token that a machine could use.
    """
    try:
        clear = {key: base64.b64decode(value, validate=True).decode("ascii") for key, value in data.items()}
        token = Token(clear["token-id"], clear["token-secret"])
        expires = parse_rfc3339(clear["expiration"])
    except KeyError as missing:
        raise NotAToken(f"it has no {missing.args[0]!r}") from None
    except (binascii.Error, UnicodeDecodeError):
        raise NotAToken("a value is not base64 of ASCII text") from None
    except NotAToken:
        raise
    except ValueError:
        raise NotAToken("its expiration is not an RFC 3339 time") from None
    if clear.get("usage-bootstrap-authentication") != "true":
        raise NotAToken("it may not be used to authenticate")
    return IssuedToken(token, created, expires)
