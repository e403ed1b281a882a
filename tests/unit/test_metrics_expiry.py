"""When a certificate expires."""

import ssl
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.metrics.expiry import NoCertificate, not_after
from tests.support.certificates import Authority
from tests.support.segment import requires


@requires("openssl")
@pytest.mark.parametrize("days", [2, 20_000])
def test_a_certificate_says_when_it_expires(days: int, tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path).sign("server", days=days)  # the second one is from after 2049
    expires = not_after(ssl.PEM_cert_to_DER_cert(certificate.read_text()))
    assert abs(expires - time.time() - days * 86400) < 120


@given(st.binary(max_size=200))
def test_any_bytes_say_a_time_or_are_no_certificate(data: bytes) -> None:
    try:
        not_after(data)
    except NoCertificate:
        return


@requires("openssl")
def test_a_certificate_that_is_cut_off_is_none(tmp_path: Path) -> None:
    certificate, _ = Authority(tmp_path).sign("server")
    whole = ssl.PEM_cert_to_DER_cert(certificate.read_text())
    for end in range(0, len(whole), 7):
        with pytest.raises(NoCertificate):
            not_after(whole[:end])
