"""The process that carriers are copies of, when a copy fails."""

import pytest

from tests.support.tftp_children import children
from tests.support.waiting import until
from tftp.carriers import Origin

pytestmark = pytest.mark.net

FAILING = """
import sys
sys.path.insert(0, sys.argv[1])
from tftp import origin

def serve(server, turn):
    raise OSError("a bug of ours")

origin.serve = serve
origin.main(int(sys.argv[2]))
"""


def test_a_carrier_that_fails_ends_and_its_origin_goes_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tftp.carriers._PROGRAM", FAILING)
    origin = Origin()
    try:
        for _ in range(2):
            with origin.copy() as control:
                control.setblocking(True)
                assert control.recv(100) == b""
        until(lambda: not children(origin.process.pid), "no copy is left")
        assert origin.process.poll() is None
    finally:
        origin.end()
    assert origin.process.returncode == 0
    assert capfd.readouterr().err.count("OSError: a bug of ours") == 2
