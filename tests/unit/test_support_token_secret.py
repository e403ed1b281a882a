"""The Secret of a bootstrap token: written and read as the API documents it."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.controller.token import NotAToken, Token
from tests.support.kube_stand_in.token_secret import read_secret, secret_data

TOKEN = Token("abcdef", "0123456789abcdef")


def encoded(data: dict[str, str]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}


def test_the_secret_has_the_keys_that_kubernetes_documents() -> None:
    assert secret_data(TOKEN, 1735689600.0, "what for") == {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "expiration": "2025-01-01T00:00:00Z",
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        "description": "what for",
    }


@given(st.integers(0, 2**33), st.text(st.characters(codec="ascii")))
def test_a_secret_is_read_as_it_was_written(expires: int, description: str) -> None:
    read = read_secret(encoded(secret_data(TOKEN, expires, description)), created=5.0)
    assert (read.token, read.created, read.expires) == (TOKEN, 5.0, expires)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("token-secret", None, "token-secret"),
        ("token-id", "abc", "six"),
        ("expiration", None, "expiration"),
        ("expiration", "tomorrow", "RFC 3339"),
        ("expiration", "2025-01-01T00:00:00", "RFC 3339"),
        ("usage-bootstrap-authentication", "false", "authenticate"),
        ("usage-bootstrap-authentication", None, "authenticate"),
    ],
)
def test_a_secret_that_is_no_usable_token_is_refused(key: str, value: str | None, reason: str) -> None:
    data = secret_data(TOKEN, 1735689600.0, "")
    data.pop(key)
    if value is not None:
        data[key] = value
    with pytest.raises(NotAToken, match=reason):
        read_secret(encoded(data), 0.0)


@given(st.dictionaries(st.sampled_from(sorted(secret_data(TOKEN, 0, ""))), st.text()))
def test_any_secret_is_read_or_refused(data: dict[str, str]) -> None:
    with pytest.raises(NotAToken):
        read_secret(data, 0.0)
