"""cluster-info: only what is signed with our token's secret is believed."""

import base64
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.controller.cluster_info import (
    MalformedKubeconfig,
    Unsigned,
    Untrusted,
    base64url,
    discover,
    read_kubeconfig,
    sign,
    verify,
)
from pxeboot.controller.join import Discovery
from pxeboot.controller.token import Token
from tests.support.kube_credentials import admin_kubeconfig, make_ca, openssl_ca_hash, public_kubeconfig

TOKEN = Token("abcdef", "0123456789abcdef")
OTHER = Token("abcdef", "fedcba9876543210")
URL = "https://10.0.0.1:6443"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ca(tmp_path_factory.mktemp("ca"))


def config_map(kubeconfig: str, token: Token = TOKEN) -> dict[str, str]:
    return {"kubeconfig": kubeconfig, f"jws-kubeconfig-{token.id}": sign(kubeconfig.encode(), token)}


@given(st.binary(max_size=300))
def test_a_signature_is_the_one_that_openssl_computes(payload: bytes) -> None:
    header, empty, signature = sign(payload, TOKEN).split(".")
    signed = f"{header}.{base64url(payload)}".encode()
    command = ["openssl", "dgst", "-sha256", "-hmac", TOKEN.secret, "-binary"]
    assert (empty, signature) == ("", base64url(subprocess.run(command, input=signed, capture_output=True).stdout))


def test_a_signature_that_go_made_is_accepted() -> None:
    """Header fields in another order and spelling than ours, as bootstrapsigner's library writes them."""
    header = base64url(b'{"kid":"abcdef","alg":"HS256"}')
    mac = subprocess.run(
        ["openssl", "dgst", "-sha256", "-hmac", TOKEN.secret, "-binary"],
        input=f"{header}.{base64url(b'text')}".encode(),
        capture_output=True,
    ).stdout
    verify(b"text", f"{header}..{base64url(mac)}", TOKEN)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_a_signature_fits_its_payload_and_its_token_alone(payload: bytes, another: bytes) -> None:
    verify(payload, sign(payload, TOKEN), TOKEN)
    with pytest.raises(Untrusted, match="does not fit"):
        verify(payload, sign(payload, OTHER), TOKEN)
    if another != payload:
        with pytest.raises(Untrusted, match="does not fit"):
            verify(another, sign(payload, TOKEN), TOKEN)


FIT = sign(b"text", TOKEN).split(".")[2]


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        ("", "detached"),
        (f"{base64url(b'{}')}.{base64url(b'text')}.{FIT}", "detached"),
        (f"!!..{FIT}", "not JSON in base64url"),
        (f"{base64url(b'[]')}..{FIT}", "not HS256"),
        (f"{base64url(b'{')}..{FIT}", "not JSON"),
        (f"{base64url(json.dumps({'alg': 'none', 'kid': 'abcdef'}).encode())}..", "not HS256"),
        (f"{base64url(json.dumps({'alg': 'HS256', 'kid': 'zzzzzz'}).encode())}..{FIT}", "not HS256 by token abcdef"),
        (sign(b"text", TOKEN)[:-1], "does not fit"),
        (sign(b"text", TOKEN)[:-1] + "ß", "not JSON|does not fit"),
    ],
)
def test_a_wrong_signature_is_refused(signature: str, reason: str) -> None:
    with pytest.raises(Untrusted, match=reason):
        verify(b"text", signature, TOKEN)


@given(st.text())
def test_any_signature_is_refused_and_nothing_else_happens(signature: str) -> None:
    with pytest.raises(Untrusted):
        verify(b"text", signature, TOKEN)


def test_a_signed_cluster_info_says_where_to_join(ca: Path) -> None:
    expected = Discovery("10.0.0.1:6443", (openssl_ca_hash(ca),))
    assert discover(config_map(public_kubeconfig(URL, ca)), TOKEN) == expected


def test_an_administrators_kubeconfig_says_the_same(ca: Path, tmp_path: Path) -> None:
    admin_kubeconfig(tmp_path / "admin", URL, ca, "secret")
    expected = Discovery("10.0.0.1:6443", (openssl_ca_hash(ca),))
    assert read_kubeconfig((tmp_path / "admin").read_text()) == expected


def test_what_is_not_signed_for_our_token_is_unsigned(ca: Path) -> None:
    kubeconfig = public_kubeconfig(URL, ca)
    for data in (None, {}, {"kubeconfig": kubeconfig}, config_map(kubeconfig, Token("zzzzzz", TOKEN.secret))):
        with pytest.raises(Unsigned):
            discover(data, TOKEN)


def test_a_changed_cluster_info_is_not_trusted(ca: Path) -> None:
    data = config_map(public_kubeconfig(URL, ca))
    data["kubeconfig"] = data["kubeconfig"].replace("10.0.0.1", "10.0.0.2")
    with pytest.raises(Untrusted, match="does not fit"):
        discover(data, TOKEN)


def test_what_is_signed_but_useless_is_not_trusted(ca: Path) -> None:
    for kubeconfig in (
        "",
        "[]",
        "a: [",
        public_kubeconfig("http://10.0.0.1", ca),
        public_kubeconfig(URL + "/path", ca),
    ):
        with pytest.raises(Untrusted, match="is signed, but"):
            discover(config_map(kubeconfig), TOKEN)


PEM = base64.b64encode(b"no certificate").decode()


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"clusters": []},
        {"clusters": [{"name": "a"}]},
        {"clusters": [{"name": "a", "cluster": None}]},
        {"clusters": [{"name": "a", "cluster": {}}]},
        {"clusters": [{"name": "a", "cluster": {}}, {"name": "b", "cluster": {}}]},
        {"clusters": [{"name": "a", "cluster": {}}], "current-context": "x", "contexts": []},
        {"clusters": [{"name": "a", "cluster": {"server": URL, "certificate-authority-data": PEM}}]},
        {"clusters": [{"name": "a", "cluster": {"server": URL, "certificate-authority-data": "%"}}]},
        {"clusters": [{"name": "a", "cluster": {"server": URL, "certificate-authority": "/etc/ca.crt"}}]},
    ],
)
def test_a_kubeconfig_without_one_server_and_its_ca_is_refused(config: object) -> None:
    with pytest.raises(MalformedKubeconfig):
        read_kubeconfig(json.dumps(config))
