"""Which certificate requests are a kubelet's for one node, and nothing more."""

import base64
import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.controller.request import (
    COMMON_NAME,
    KUBELET_SIGNER,
    ORGANIZATION,
    PRINTABLE_STRING,
    UTF8_STRING,
    Unfit,
    check_terms,
    public_key,
    subjects,
)

DATA = Path(__file__).parents[1] / "data/requests"
GOOD = ["kubelet-1.20.2.pem", "go-rsa.pem", "openssl-p256.pem", "openssl-rsa.pem"]
KUBELET = (DATA / GOOD[0]).read_bytes()


def der_of(pem: bytes) -> bytes:
    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))


def pem_of(der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + b"-----END CERTIFICATE REQUEST-----\n"


def tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    assert len(content) < 0x10000
    length = bytes([len(content)]) if len(content) < 128 else b"\x82" + len(content).to_bytes(2)
    return bytes([tag]) + length + content


def rdn(attribute: bytes, text: bytes, tag: int = PRINTABLE_STRING) -> bytes:
    return tlv(0x31, tlv(0x30, tlv(0x06, attribute), tlv(tag, text)))


def made(
    subject: bytes, *, version: bytes = b"\x02\x01\x00", attributes: bytes = b"\xa0\x00", after: bytes = b""
) -> bytes:
    """A request with a subject of the test's own; nobody looks at its key and signature."""
    key = tlv(0x30, b"\x06\x03abc")
    info = tlv(0x30, version, subject, key, attributes)
    return pem_of(tlv(0x30, info, tlv(0x30), tlv(0x03, b"\x00x"), after))


def name(*rdns: bytes) -> bytes:
    return tlv(0x30, *rdns)


NODES = rdn(ORGANIZATION, b"system:nodes")
CN = rdn(COMMON_NAME, b"system:node:m7")


@pytest.mark.parametrize("file", GOOD)
def test_what_kubelets_and_openssl_make_is_approved_for_its_node(file: str) -> None:
    pem = (DATA / file).read_bytes()
    openssl = subprocess.run(
        ["sh", "-c", "openssl req -pubkey -noout | openssl pkey -pubin -outform der"],
        input=pem,
        capture_output=True,
        check=True,
    )
    assert public_key(pem, "m7") == hashlib.sha256(openssl.stdout).hexdigest()


@pytest.mark.parametrize("file", GOOD)
@pytest.mark.parametrize("node", ["m8", "m", "m77", "M7", "m7 ", ""])
def test_it_is_approved_for_no_other_node(file: str, node: str) -> None:
    with pytest.raises(Unfit, match="subject"):
        public_key((DATA / file).read_bytes(), node)


def test_one_that_asks_for_other_names_as_well_is_not_approved() -> None:
    with pytest.raises(Unfit, match="attributes"):
        public_key((DATA / "go-rsa-with-names.pem").read_bytes(), "m7")


def test_a_made_request_is_approved_so_that_the_next_test_means_something() -> None:
    public_key(made(name(NODES, CN)), "m7")
    public_key(made(name(rdn(ORGANIZATION, b"system:nodes", UTF8_STRING), CN)), "m7")


@pytest.mark.parametrize(
    "pem",
    [
        pytest.param(made(name(CN, NODES)), id="other order"),
        pytest.param(made(name(NODES, CN, CN)), id="two names"),
        pytest.param(made(name(NODES, CN, rdn(COMMON_NAME, b"system:node:m8"))), id="another name after it"),
        pytest.param(made(name(NODES, NODES, CN)), id="two groups"),
        pytest.param(made(name(rdn(ORGANIZATION, b"system:masters"), CN)), id="another group"),
        pytest.param(made(name(NODES, rdn(ORGANIZATION, b"system:masters"), CN)), id="another group besides"),
        pytest.param(made(name(CN)), id="no group"),
        pytest.param(made(name(NODES)), id="no name"),
        pytest.param(made(name(tlv(0x31, NODES[2:] + CN[2:]))), id="one name of two parts"),
        pytest.param(made(name(NODES, rdn(COMMON_NAME, b"system:node:m7\x00"))), id="a zero byte"),
        pytest.param(made(name(NODES, rdn(COMMON_NAME, b"system:node:m7", 0x16))), id="IA5String"),
        pytest.param(made(name(NODES, rdn(COMMON_NAME, "system:node:m7".encode("utf-16-be"), 0x1E))), id="BMPString"),
        pytest.param(made(b"\x30\x81" + name(NODES, CN)[1:]), id="a length that is longer than it must be"),
        pytest.param(made(name(NODES, CN), version=b"\x02\x01\x01"), id="version 2"),
        pytest.param(made(name(NODES, CN), attributes=b""), id="attributes left out"),
        pytest.param(made(name(NODES, CN), attributes=b"\xa0\x02\x30\x00"), id="an attribute"),
        pytest.param(made(name(NODES, CN), attributes=b"\xa0\x00\xa0\x00"), id="attributes twice"),
        pytest.param(made(name(NODES, CN), after=b"\x05\x00"), id="something after the signature"),
        pytest.param(pem_of(der_of(KUBELET) + b"\x00"), id="something after the end"),
        pytest.param(KUBELET + KUBELET, id="two PEM blocks"),
        pytest.param((DATA / GOOD[1]).read_bytes() + b"x", id="text after it"),
        pytest.param(b"x\n" + KUBELET, id="text before it"),
        pytest.param(KUBELET.replace(b"-----\n", b"-----\nA: b\n\n", 1), id="a PEM header"),
        pytest.param(KUBELET.replace(b"REQUEST", b""), id="another kind of PEM"),
        pytest.param(der_of(KUBELET), id="DER"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\n" * 100_000 + KUBELET, id="longer than any"),
    ],
)
def test_what_says_anything_else_or_in_other_words_is_not_approved(pem: bytes) -> None:
    with pytest.raises(Unfit):
        public_key(pem, "m7")


@given(st.sampled_from(GOOD), st.data())
def test_a_changed_byte_never_makes_it_approved_for_another_node(file: str, data: st.DataObject) -> None:
    der = bytearray(der_of((DATA / file).read_bytes()))
    place = data.draw(st.integers(0, len(der) - 1))
    der[place] = data.draw(st.integers(0, 255))
    with pytest.raises(Unfit):
        public_key(pem_of(bytes(der)), data.draw(st.sampled_from(["m8", "n7", "m", "m7.m7", "m6"])))


@given(st.sampled_from(GOOD), st.data())
def test_what_is_approved_holds_the_subject_of_the_node(file: str, data: st.DataObject) -> None:
    der = bytearray(der_of((DATA / file).read_bytes()))
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(der)))
        end = data.draw(st.integers(start, min(len(der), start + 4)))
        der[start:end] = data.draw(st.binary(max_size=4))
    try:
        public_key(pem_of(bytes(der)), "m7")
    except Unfit:
        return
    assert sum(bytes(der).count(subject) for subject in subjects("m7")) == 1


@given(st.binary(max_size=400))
def test_any_bytes_are_a_request_or_unfit(der: bytes) -> None:
    for pem in (der, pem_of(der)):
        with pytest.raises(Unfit):
            public_key(pem, "m7")


@given(st.from_regex(r"\A[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?\Z"))
def test_every_name_that_a_node_may_have_is_found(node: str) -> None:
    public_key(made(name(NODES, rdn(COMMON_NAME, b"system:node:" + node.encode()))), node)


@pytest.mark.parametrize(
    "usages",
    [("digital signature", "key encipherment", "client auth"), ("client auth", "digital signature")],
)
def test_the_usages_of_a_kubelet_are_approved(usages: tuple[str, ...]) -> None:
    check_terms(KUBELET_SIGNER, usages)


@pytest.mark.parametrize(
    ("signer", "usages"),
    [
        ("kubernetes.io/kube-apiserver-client", ("digital signature", "key encipherment", "client auth")),
        ("kubernetes.io/kubelet-serving", ("digital signature", "key encipherment", "client auth")),
        ("", ("digital signature", "key encipherment", "client auth")),
        (KUBELET_SIGNER, ("digital signature", "key encipherment", "client auth", "server auth")),
        (KUBELET_SIGNER, ("digital signature", "key encipherment", "server auth")),
        (KUBELET_SIGNER, ("client auth",)),
        (KUBELET_SIGNER, ()),
        (KUBELET_SIGNER, ("any",)),
    ],
)
def test_another_signer_or_other_usages_are_not_approved(signer: str, usages: tuple[str, ...]) -> None:
    with pytest.raises(Unfit):
        check_terms(signer, usages)


def test_what_is_wrong_is_said_without_the_request() -> None:
    with pytest.raises(Unfit) as unfit:
        public_key(made(name(NODES, rdn(COMMON_NAME, b"secret"))), "m7")
    assert "secret" not in str(unfit.value)
