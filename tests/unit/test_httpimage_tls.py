"""Certificates: which are taken, which are refused with what is wrong, and when a change is followed."""

import logging
import os
import ssl
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from config.delivery import Tls
from httpimage.handshakes import why
from httpimage.tls import Credentials, TlsError, context_of
from tests.support.certificates import Authority, handshake, openssl


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pairs(authority: Authority) -> dict[str, tuple[Path, Path]]:
    return {name: authority.sign(name) for name in ("one", "two")}


@pytest.fixture
def settings(tmp_path: Path, pairs: dict[str, tuple[Path, Path]]) -> Tls:
    put(pairs["one"], tmp_path)
    return Tls(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")


def put(pair: tuple[Path, Path], folder: Path) -> None:
    """Replace both files, as a renewal does."""
    for source, name in zip(pair, ("tls.crt", "tls.key"), strict=True):
        new = folder / f"{name}.new"
        new.write_bytes(source.read_bytes())
        new.chmod(0o600)
        new.rename(folder / name)


def shown(credentials: Credentials, authority: Authority) -> str:
    return handshake(credentials.context, authority.client())


def test_a_certificate_is_shown_to_clients(settings: Tls, authority: Authority) -> None:
    assert shown(Credentials(settings), authority) == "one"


def test_a_renewed_pair_is_used_once_it_stands_still(
    settings: Tls, authority: Authority, pairs: dict[str, tuple[Path, Path]]
) -> None:
    credentials = Credentials(settings)
    before = credentials.context
    credentials.look()
    assert credentials.context is before
    put(pairs["two"], settings.key.parent)
    credentials.look()
    assert credentials.context is before
    credentials.look()
    assert shown(credentials, authority) == "two"
    after = credentials.context
    credentials.look()
    assert credentials.context is after


def test_a_link_that_points_elsewhere_is_a_change(
    tmp_path: Path, authority: Authority, pairs: dict[str, tuple[Path, Path]]
) -> None:
    """A mounted Secret of Kubernetes is a link to a folder, and another folder when it changes."""
    for name, pair in pairs.items():
        (tmp_path / name).mkdir()
        put(pair, tmp_path / name)
    (tmp_path / "data").symlink_to("one")
    credentials = Credentials(Tls(certificate=tmp_path / "data/tls.crt", key=tmp_path / "data/tls.key"))
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")
    credentials.look()
    credentials.look()
    assert shown(credentials, authority) == "two"


def test_a_broken_change_is_told_once_and_the_old_pair_stays(
    settings: Tls, authority: Authority, pairs: dict[str, tuple[Path, Path]], caplog: pytest.LogCaptureFixture
) -> None:
    credentials = Credentials(settings)
    settings.certificate.write_bytes(pairs["two"][0].read_bytes())
    for _ in range(20):
        credentials.look()
    assert shown(credentials, authority) == "one"
    assert [record.getMessage() for record in caplog.records] == [
        f"https goes on with the certificate that it has: http.tls.key: {str(settings.key)!r} is not the key of the "
        f"first certificate in {str(settings.certificate)!r}"
    ]
    settings.key.write_bytes(pairs["two"][1].read_bytes())
    credentials.look()
    credentials.look()
    assert shown(credentials, authority) == "two"


def test_a_file_that_is_gone_for_a_while_changes_nothing(
    settings: Tls, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = Credentials(settings)
    kept = settings.key.rename(settings.key.with_suffix(".kept"))
    for _ in range(3):
        credentials.look()
    assert shown(credentials, authority) == "one"
    assert "cannot be read: No such file or directory" in caplog.text
    kept.rename(settings.key)
    credentials.look()
    credentials.look()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("spoil", "setting", "text"),
    [
        (lambda tls: tls.certificate.unlink(), "certificate", "cannot be read: No such file or directory"),
        (lambda tls: tls.key.unlink(), "key", "cannot be read: No such file or directory"),
        (lambda tls: tls.certificate.write_bytes(b""), "certificate", "holds no certificate in PEM"),
        (lambda tls: tls.certificate.write_bytes(tls.key.read_bytes()), "certificate", "holds no certificate in PEM"),
        (lambda tls: tls.key.write_bytes(b"junk"), "key", "holds no private key in PEM"),
        (lambda tls: tls.key.write_bytes(tls.certificate.read_bytes()), "key", "holds no private key in PEM"),
        (
            lambda tls: os.mkfifo(tls.key.rename(tls.key.with_suffix(".kept")).with_suffix(".key")),
            "key",
            "is not a file",
        ),
        (
            lambda tls: openssl("ec", "-aes128", "-passout", "pass:x", "-in", str(tls.key), "-out", str(tls.key)),
            "key",
            "has a password",
        ),
        (
            lambda tls: openssl("x509", "-outform", "DER", "-in", str(tls.certificate), "-out", str(tls.certificate)),
            "certificate",
            "holds no certificate in PEM",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    settings: Tls, spoil: Callable[[Tls], object], setting: str, text: str
) -> None:
    secret = settings.key.read_text().splitlines()[1]
    spoil(settings)
    with pytest.raises(TlsError) as caught:
        context_of(settings)
    assert caught.value.setting == setting
    assert str(caught.value).startswith(f"http.tls.{setting}: '{settings.key.parent}/tls.")
    assert text in str(caught.value)
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_a_key_of_another_certificate_is_refused(settings: Tls, pairs: dict[str, tuple[Path, Path]]) -> None:
    settings.key.write_bytes(pairs["two"][1].read_bytes())
    with pytest.raises(TlsError, match="is not the key of the first certificate in"):
        context_of(settings)


def test_a_certificate_that_openssl_finds_too_weak_is_named(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.sign("weak", key=("-newkey", "rsa:1024"))
    with pytest.raises(TlsError, match=r"http\.tls\.certificate: .* is too weak: ee key too small"):
        context_of(Tls(certificate=certificate, key=key))


def test_a_key_that_everybody_can_read_is_a_warning(settings: Tls, caplog: pytest.LogCaptureFixture) -> None:
    context_of(settings)
    settings.key.chmod(0o640)
    context_of(settings)
    assert not caplog.records
    settings.key.chmod(0o644)
    context_of(settings)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{str(settings.key)!r} can be read by everybody" in caplog.text


def test_only_a_client_of_an_authority_is_let_in(
    settings: Tls, tmp_path: Path, authority: Authority, pairs: dict[str, tuple[Path, Path]]
) -> None:
    other = Authority(tmp_path, "other")
    credentials = Credentials(settings.model_copy(update={"client_ca": other.certificate}))
    mine, foreign = other.sign("mine"), pairs["two"]
    assert handshake(credentials.context, authority.client(mine)) == "one"
    for client, reason in (
        (authority.client(), "it showed no certificate"),
        (authority.client(foreign), "its certificate is not accepted: self-signed certificate in certificate chain"),
    ):
        with pytest.raises(ssl.SSLError) as caught:
            handshake(credentials.context, client)
        assert why(caught.value) == reason
    # Who is let in is followed too.
    other.certificate.write_bytes(authority.certificate.read_bytes())
    credentials.look()
    credentials.look()
    assert handshake(credentials.context, authority.client(foreign)) == "one"


def test_authorities_that_are_none_are_refused(settings: Tls, tmp_path: Path) -> None:
    (tmp_path / "clients.pem").write_text("nobody")
    with pytest.raises(TlsError, match=r"http\.tls\.client_ca: .* holds no certificate in PEM"):
        context_of(settings.model_copy(update={"client_ca": tmp_path / "clients.pem"}))


def limited(client: ssl.SSLContext, ciphers: str) -> ssl.SSLContext:
    """Let a client offer TLS 1.2 and these ciphers only."""
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(ciphers)
    return client


def test_ciphers_are_those_of_today(settings: Tls, authority: Authority) -> None:
    context = context_of(settings)
    assert handshake(context, limited(authority.client(), "ECDHE-ECDSA-AES128-GCM-SHA256")) == "one"
    for old in ("ECDHE-ECDSA-AES128-SHA", "NULL-SHA256:@SECLEVEL=0"):
        with pytest.raises(ssl.SSLError) as caught:
            handshake(context, limited(authority.client(), old))
        assert why(caught.value) == "it knows none of our ciphers"


def test_firmware_without_elliptic_curves_is_served(authority: Authority) -> None:
    certificate, key = authority.sign("rsa", key=("-newkey", "rsa:2048"))
    client = limited(authority.client(), "AES128-SHA256")
    assert handshake(context_of(Tls(certificate=certificate, key=key)), client) == "rsa"


def test_what_is_wrong_is_said_of_the_section_that_names_the_file(tmp_path: Path) -> None:
    settings = Tls(certificate=tmp_path / "none.pem", key=tmp_path / "none.key")
    with pytest.raises(TlsError, match=r"^nbd\.tls\.certificate: '.*none\.pem' cannot be read"):
        Credentials(settings, "nbd.tls")
    with pytest.raises(TlsError, match=r"^http\.tls\.certificate: "):
        Credentials(settings)
