"""CA certificates, as far as joining needs them: PEM → DER → the hash that `kubeadm join` pins."""

import base64
import binascii
import hashlib
import re
from typing import NamedTuple

PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
INTEGER, SEQUENCE, VERSION = 0x02, 0x30, 0xA0


class MalformedCertificate(ValueError):
    """The bytes are no X.509 certificate."""


class Element(NamedTuple):
    """One DER element: its tag, and where it starts, where its content starts and where it ends."""

    tag: int
    start: int
    content: int
    end: int


def element(der: bytes, start: int, end: int) -> Element:
    """Return the DER element at `start`, which must end by `end` (X.690 sections 8.1.2 and 10.1).

    Raises `MalformedCertificate`.
    """
    if start + 2 > end:
        raise MalformedCertificate("it ends inside a DER header")
    content, length = start + 2, der[start + 1]
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4 or content + count > end:
            raise MalformedCertificate("a DER length is malformed")
        length = int.from_bytes(der[content : content + count])
        content += count
    if content + length > end:
        raise MalformedCertificate("a DER element is longer than what holds it")
    return Element(der[start], start, content, content + length)


def subject_public_key_info(der: bytes) -> bytes:
    """Return the DER of the certificate's SubjectPublicKeyInfo (RFC 5280 section 4.1).

    TBSCertificate is: [0] version (optional), serialNumber, signature, issuer, validity, subject, and then it.
    Raises `MalformedCertificate`.
    """
    certificate = element(der, 0, len(der))
    tbs = element(der, certificate.content, certificate.end)
    field = element(der, tbs.content, tbs.end)
    if field.tag == VERSION:
        field = element(der, field.end, tbs.end)
    if (certificate.tag, tbs.tag, field.tag) != (SEQUENCE, SEQUENCE, INTEGER):
        raise MalformedCertificate("it does not begin as an X.509 certificate does")
    for _ in range(5):
        field = element(der, field.end, tbs.end)
        if field.tag != SEQUENCE:
            raise MalformedCertificate("a field before its public key is no SEQUENCE")
    return der[field.start : field.end]


def pem_certificates(pem: str) -> list[bytes]:
    """Return the DER of every certificate in `pem`, in order. Raises `MalformedCertificate`, also for none."""
    try:
        found = [base64.b64decode("".join(body.split()), validate=True) for body in PEM.findall(pem)]
    except binascii.Error:
        raise MalformedCertificate("a PEM block is not base64") from None
    if not found:
        raise MalformedCertificate("there is no PEM certificate in it")
    return found


def ca_hashes(pem: str) -> tuple[str, ...]:
    """Return `sha256:<hex>` of each CA in `pem`, as `--discovery-token-ca-cert-hash` wants it.

    Several while the CA rotates; each once, in the order of the bundle. Raises `MalformedCertificate`.
    """
    digests = (hashlib.sha256(subject_public_key_info(der)).hexdigest() for der in pem_certificates(pem))
    return tuple(dict.fromkeys(f"sha256:{digest}" for digest in digests))
