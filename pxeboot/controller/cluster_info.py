"""ConfigMap kube-public/cluster-info → where machines join, once its signature for our token is checked.

Anybody may read that ConfigMap, and it is what a machine believes, so we publish nothing from it that was not
signed with the secret of the token we made (Kubernetes, "Authenticating with Bootstrap Tokens", ConfigMap signing).
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import lru_cache

import yaml

from pxeboot.controller.certificate import MalformedCertificate, ca_hashes
from pxeboot.controller.join import Discovery, host_and_port
from pxeboot.controller.token import Token


class Untrusted(Exception):
    """Nothing of this cluster-info may be used; the message says why."""


class Unsigned(Untrusted):
    """It carries no signature for our token: the signer has not come to it yet, or there is no signer."""


class MalformedKubeconfig(ValueError):
    """It is no kubeconfig that names one API server with its CA."""


def base64url(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def sign(payload: bytes, token: Token) -> str:
    """Return the detached JWS of `payload` that bootstrapsigner makes: HS256, the key is the token's secret alone.

    RFC 7515 appendix F: header, two dots, signature.
    """
    header = base64url(json.dumps({"alg": "HS256", "kid": token.id}, separators=(",", ":")).encode())
    return f"{header}..{mac(header, payload, token)}"


def mac(header: str, payload: bytes, token: Token) -> str:
    """Return the signature part over an already encoded `header` (RFC 7515 section 5.1)."""
    signed = f"{header}.{base64url(payload)}".encode("ascii")
    return base64url(hmac.digest(token.secret.encode("ascii"), signed, hashlib.sha256))


def verify(payload: bytes, signature: str, token: Token) -> None:
    """Check a detached JWS. Raises `Untrusted` unless it is HS256, names our token, and fits.

    The algorithm is ours to choose and not the header's: one that says `none` is refused like any other.
    """
    parts = signature.split(".")
    if len(parts) != 3 or parts[1]:
        raise Untrusted("its signature is not a detached JWS")
    header = parts[0]
    try:
        fields = json.loads(base64.b64decode(header + "=" * (-len(header) % 4), altchars=b"-_", validate=True))
        encoded = parts[2].encode("ascii")
    except (binascii.Error, ValueError):
        raise Untrusted("its signature's header is not JSON in base64url") from None
    if not isinstance(fields, dict) or fields.get("alg") != "HS256" or fields.get("kid") != token.id:
        raise Untrusted(f"its signature is not HS256 by token {token.id}")
    if not hmac.compare_digest(encoded, mac(header, payload, token).encode("ascii")):
        raise Untrusted(f"its signature does not fit the secret of token {token.id}")


def discover(data: Mapping[str, str] | None, token: Token) -> Discovery:
    """Return what the ConfigMap's `data` says, having checked its signature for `token`.

    None is a ConfigMap that is not there. Raises `Unsigned` or `Untrusted`.
    """
    if data is None:
        raise Unsigned("there is no ConfigMap kube-public/cluster-info")
    kubeconfig, signature = data.get("kubeconfig"), data.get(f"jws-kubeconfig-{token.id}")
    if kubeconfig is None:
        raise Unsigned("kube-public/cluster-info holds no kubeconfig")
    if signature is None:
        raise Unsigned(f"kube-public/cluster-info is not signed for token {token.id}")
    try:
        verify(kubeconfig.encode(), signature, token)
        return read_kubeconfig(kubeconfig)
    except Untrusted as error:
        raise Untrusted(f"kube-public/cluster-info: {error}") from None
    except MalformedKubeconfig as error:
        raise Untrusted(f"kube-public/cluster-info is signed, but {error}") from None


@lru_cache(maxsize=8)
def read_kubeconfig(text: str) -> Discovery:
    """Return the server and CA of a kubeconfig whose CA is written inside it.

    The current context's cluster, or the only one there is (cluster-info has no context).
    Remembered for a few texts, since YAML is slow and each look at a cluster reads the same one.
    Raises `MalformedKubeconfig`.
    """
    cluster = current_cluster(text)
    pem = cluster.get("certificate-authority-data")
    if not isinstance(pem, str):
        raise MalformedKubeconfig("its cluster has no certificate-authority-data")
    try:
        return discovery(str(cluster.get("server", "")), base64.b64decode(pem, validate=True).decode("ascii"))
    except (binascii.Error, UnicodeDecodeError):
        raise MalformedKubeconfig("its certificate-authority-data is not base64 of PEM") from None


def discovery(url: str, pem: str) -> Discovery:
    """Return the `Discovery` of an API server's URL and its CA bundle. Raises `MalformedKubeconfig`."""
    try:
        return Discovery(host_and_port(url), ca_hashes(pem))
    except MalformedCertificate as error:
        raise MalformedKubeconfig(f"its CA cannot be read: {error}") from None
    except ValueError as error:
        raise MalformedKubeconfig(str(error)) from None


def current_cluster(text: str) -> Mapping[str, object]:
    """Return the `cluster` mapping that a kubeconfig's current context uses. Raises `MalformedKubeconfig`."""
    try:
        config = yaml.safe_load(text)
        clusters = {entry["name"]: entry["cluster"] for entry in config["clusters"]}
        context = config.get("current-context")
        name = (
            {entry["name"]: entry["context"]["cluster"] for entry in config["contexts"]}[context] if context else None
        )
        cluster = clusters[name] if context else next(iter(clusters.values())) if len(clusters) == 1 else None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        raise MalformedKubeconfig("it is not a kubeconfig") from None
    if not isinstance(cluster, dict):
        raise MalformedKubeconfig("it names no cluster as the current one")
    return cluster
