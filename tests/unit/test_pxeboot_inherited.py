"""Sockets that we are started with."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pxeboot.inherited import Inherited
from tests.support.segment import lacking

TAKES = """\
import os, sys
from pxeboot.inherited import Inherited
os.environ["LISTEN_PID"] = os.environ["LISTEN_PID"].replace("mine", str(os.getpid()))
kept = Inherited.from_environment()
left = [name for name in os.environ if name.startswith("LISTEN_")]
got = [f"{server}-{name}" for server in ("http", "https", "nbd") for name in ("eth1", "lo") if kept.take(server, name)]
print(left, got, [fd for fd in (3, 4) if os.path.exists(f"/proc/self/fd/{fd}") and os.get_inheritable(fd)])
"""


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


def started_with(listening: socket.socket, names: str, pid: str = "mine", kind: str = "listen") -> tuple[str, str]:
    """Return what a process says that was started with two sockets of `names`: its output, and its log."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        first = datagrams if kind == "datagram" else listening
        script = f"import os; os.dup2({first.fileno()}, 63); os.dup2({listening.fileno()}, 64); os.dup2(63, 3); "
        script += f"os.dup2(64, 4); os.execv({sys.executable!r}, [{sys.executable!r}, '-c', {TAKES!r}])"
        environ = {**os.environ, "LISTEN_PID": pid, "LISTEN_FDS": "2", "LISTEN_FDNAMES": names}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True,
            pass_fds=(first.fileno(), listening.fileno()),
        )  # fmt: skip
    return done.stdout.strip(), done.stderr


def test_a_name_says_what_a_socket_is_for_and_children_hear_nothing_of_it(listening: socket.socket) -> None:
    assert started_with(listening, "http-eth1:nbd-eth1") == ("[] ['http-eth1', 'nbd-eth1'] []", "")


def test_what_was_meant_for_another_process_is_left_alone(listening: socket.socket) -> None:
    assert started_with(listening, "http-eth1:nbd-eth1", pid="1")[0] == "[] [] [3, 4]"


@pytest.mark.parametrize(("names", "kind"), [("ssh:nbd-eth1", "listen"), ("http-eth1:nbd-eth1", "datagram"),
                                             (":nbd-eth1", "listen")])  # fmt: skip
def test_what_cannot_be_used_is_named_and_the_rest_is_used(listening: socket.socket, names: str, kind: str) -> None:
    said, log = started_with(listening, names, kind=kind)
    assert said == "[] ['nbd-eth1'] []"
    assert "is not used: expected one that listens on TCP over IPv4" in log


def test_what_is_taken_may_be_closed_and_taken_again(listening: socket.socket) -> None:
    kept = Inherited({"http-eth1": listening})
    for _ in range(2):
        sock = kept.take("http", "eth1")
        assert sock is not None
        assert not sock.getblocking()
        sock.close()
    with socket.create_connection(listening.getsockname()):
        assert listening.accept()


def test_a_socket_of_another_interface_is_not_taken(
    listening: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    if os.geteuid() != 0:
        lacking("only root may bind to a device in older kernels")
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    kept = Inherited({"http-eth1": listening, "http-lo": listening})
    assert kept.take("http", "eth1") is None
    assert "is bound to lo" in caplog.text
    mine = kept.take("http", "lo")
    assert mine is not None
    mine.close()
