"""Is this certificate request one that a kubelet makes for this node, and nothing more? Pure.

A request is PKCS#10 (RFC 2986) in PEM. Its subject is compared byte for byte with what Go and OpenSSL write for the
node; nothing is parsed leniently, so that no other reader can find another name in what we approved.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from itertools import product

from pxeboot.controller.certificate import Element, MalformedCertificate, element

KUBELET_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
USAGES = (
    frozenset({"digital signature", "key encipherment", "client auth"}),
    frozenset({"digital signature", "client auth"}),
)
"""What a kubelet asks for; since Kubernetes 1.27 without key encipherment, where its key is not RSA."""

PEM = re.compile(
    rb"\s*-----BEGIN CERTIFICATE REQUEST-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE REQUEST-----\s*"
)
INTEGER, BIT_STRING, OBJECT_IDENTIFIER, UTF8_STRING, PRINTABLE_STRING = 0x02, 0x03, 0x06, 0x0C, 0x13
SEQUENCE, SET = 0x30, 0x31
ORGANIZATION, COMMON_NAME = bytes.fromhex("55040a"), bytes.fromhex("550403")
VERSION_1 = bytes.fromhex("020100")
NO_ATTRIBUTES = bytes.fromhex("a000")
LONGEST_BYTES = 16384
"""A request with an RSA key of 8192 bits is a sixth of it."""


class Unfit(ValueError):
    """This request is not approved; the message says why, in words, and holds nothing of the request."""


def public_key(pem: bytes, node: str) -> str:
    """Return the SHA-256 of the SubjectPublicKeyInfo of a request for `system:node:` and `node`, as hex digits.

    Raises `Unfit` unless the subject is O=system:nodes, CN=system:node:NODE in this order and the request asks for
    nothing else, such as other names.
    """
    der = _decode(pem)
    try:
        request = _expect(der, 0, len(der), SEQUENCE)
        info = _expect(der, request.content, request.end, SEQUENCE)
        version = _expect(der, info.content, info.end, INTEGER)
        subject = _expect(der, version.end, info.end, SEQUENCE)
        key = _expect(der, subject.end, info.end, SEQUENCE)
        algorithm = _expect(der, info.end, request.end, SEQUENCE)
        signature = _expect(der, algorithm.end, request.end, BIT_STRING)
    except MalformedCertificate as error:
        raise Unfit(f"it is no PKCS#10 request: {error}") from None
    if request.end != len(der) or signature.end != request.end or der[version.start : version.end] != VERSION_1:
        raise Unfit("it is no PKCS#10 request of version 1, and nothing else")
    if der[subject.start : subject.end] not in subjects(node):
        raise Unfit(f"its subject is not O=system:nodes, CN=system:node:{node}")
    if der[key.end : info.end] != NO_ATTRIBUTES:
        raise Unfit("it asks for more than a name, with attributes")
    return hashlib.sha256(der[key.start : key.end]).hexdigest()


def check_terms(signer: str, usages: Iterable[str]) -> None:
    """Raise `Unfit` unless the signer and the usages are those that a kubelet asks for."""
    if signer != KUBELET_SIGNER:
        raise Unfit(f"it is for the signer {signer!r}")
    if frozenset(usages) not in USAGES:
        raise Unfit(f"its usages are {', '.join(sorted(usages))!r}, which no kubelet asks for")


def subjects(node: str) -> frozenset[bytes]:
    """Return the DER of the subject of `node`'s kubelet: Go writes PrintableStrings, OpenSSL UTF8Strings."""
    tags = (PRINTABLE_STRING, UTF8_STRING)
    return frozenset(
        _tlv(SEQUENCE, _name(ORGANIZATION, first, "system:nodes") + _name(COMMON_NAME, second, f"system:node:{node}"))
        for first, second in product(tags, tags)
    )


def _name(attribute: bytes, tag: int, text: str) -> bytes:
    """RelativeDistinguishedName of one attribute (RFC 5280 section 4.1.2.4)."""
    return _tlv(SET, _tlv(SEQUENCE, _tlv(OBJECT_IDENTIFIER, attribute) + _tlv(tag, text.encode("ascii"))))


def _tlv(tag: int, content: bytes) -> bytes:
    """One DER element (X.690 section 10.1)."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def _expect(der: bytes, start: int, end: int, tag: int) -> Element:
    found = element(der, start, end)
    if found.tag != tag:
        raise MalformedCertificate("an element is of another kind than it must be")
    return found


def _decode(pem: bytes) -> bytes:
    """The DER of the one PEM block that is all there is. Raises `Unfit`."""
    if len(pem) > LONGEST_BYTES:
        raise Unfit(f"it is longer than {LONGEST_BYTES} bytes")
    match = PEM.fullmatch(pem)
    if match is None:
        raise Unfit("it is not one PEM block of a certificate request, and nothing else")
    try:
        return base64.b64decode(match[1].translate(None, b"\r\n"), validate=True)
    except binascii.Error:
        raise Unfit("its PEM block is not base64") from None
