"""The CA's hash: the one that openssl computes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.controller.certificate import (
    MalformedCertificate,
    ca_hashes,
    pem_certificates,
    subject_public_key_info,
)
from tests.support.kube_credentials import make_ca, openssl_ca_hash


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("ca")
    return [make_ca(folder, "elliptic"), make_ca(folder, "rivest", key="rsa")]


def test_each_hash_is_the_one_that_openssl_computes(authorities: list[Path]) -> None:
    for certificate in authorities:
        assert ca_hashes(certificate.read_text()) == (openssl_ca_hash(certificate),)


def test_a_bundle_gives_a_hash_for_each_authority_once(authorities: list[Path]) -> None:
    first, second = (certificate.read_text() for certificate in authorities)
    both = tuple(openssl_ca_hash(certificate) for certificate in authorities)
    assert ca_hashes(first + "\n# the next one\n" + second + first) == both


def test_carriage_returns_in_the_pem_change_nothing(authorities: list[Path]) -> None:
    text = authorities[0].read_text()
    assert ca_hashes(text.replace("\n", "\r\n")) == ca_hashes(text)


@pytest.mark.parametrize("pem", ["", "no pem", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----"])
def test_what_is_no_pem_certificate_is_refused(pem: str) -> None:
    with pytest.raises(MalformedCertificate):
        ca_hashes(pem)


@pytest.mark.parametrize(
    ("der", "reason"),
    [
        (b"", "inside a DER header"),
        (b"\x30", "inside a DER header"),
        (b"\x30\x80", "length is malformed"),
        (b"\x30\x85\x01\x01\x01\x01\x01", "length is malformed"),
        (b"\x30\x05\x30", "longer than what holds it"),
        (b"\x30\x04\x30\x02\x30\x00", "begin as an X.509"),
        (b"\x30\x09\x30\x07\x02\x01\x01\x02\x00\x30\x00", "no SEQUENCE"),
    ],
)
def test_what_is_no_x509_certificate_is_refused(der: bytes, reason: str) -> None:
    with pytest.raises(MalformedCertificate, match=reason):
        subject_public_key_info(der)


@given(st.data())
def test_a_damaged_certificate_is_read_or_refused(authorities: list[Path], data: st.DataObject) -> None:
    der = bytearray(pem_certificates(authorities[0].read_text())[0])
    der[data.draw(st.integers(0, len(der) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        subject_public_key_info(bytes(der[: data.draw(st.integers(0, len(der)))]))
    except MalformedCertificate:
        return
