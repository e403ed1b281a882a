"""The wires that other tests stand on."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.segment import CommandFailed, Segment, requires
from tests.support.waiting import until

pytestmark = pytest.mark.net


def namespaces() -> str:
    return subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout


def test_the_hosts_see_each_other_and_speak_no_ipv6(segment: Segment) -> None:
    segment.client.run("ip", "address", "add", "10.77.0.9/24", "dev", "eth0")
    listing = segment.client.run("ip", "-6", "address").stdout
    assert "inet6" not in listing
    answer = segment.server.popen("busybox", "nc", "-l", "-p", "7777", stdout=subprocess.PIPE)
    ask = ("busybox", "nc", "-w", "30", "10.77.0.1", "7777")
    until(lambda: segment.client.run(*ask, text_in="hello", check=False).returncode == 0, "it listens")
    assert answer.communicate(timeout=60)[0] == "hello"
    assert len(segment.client.mac) == 17
    assert segment.client.mac != segment.server.mac


def test_everything_is_gone_afterwards_even_what_a_command_left_behind(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(KeyboardInterrupt), Segment() as segment:  # noqa: PT012
        names = [segment.server.namespace, segment.client.namespace, segment.bridge.namespace]
        assert all(str(os.getpid()) in name for name in names)
        script = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
        stubborn = segment.server.popen("sh", "-c", script, stdout=subprocess.PIPE)
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == "deaf\n"
        segment.client.run("sh", "-c", f"setsid sleep 1000 >/dev/null 2>&1 & echo $! > {note}")
        segment.tap("tap7")
        raise KeyboardInterrupt
    assert stubborn.returncode == -9
    left = Path(f"/proc/{note.read_text().strip()}/status")
    assert not left.exists() or "State:\tZ" in left.read_text()
    assert not any(name in namespaces().split() for name in names)


def test_a_failure_while_building_leaves_nothing() -> None:
    with pytest.raises(CommandFailed, match=r"(?s)not-an-address"), Segment(server_address="not-an-address"):
        pass
    assert not re.search(rf"\bpx{os.getpid()}(?!\d)", namespaces())


def test_a_failed_command_shows_what_it_said(segment: Segment) -> None:
    with pytest.raises(CommandFailed, match=r"(?s)exit status 3.*because"):
        segment.client.run("sh", "-c", "echo because >&2; exit 3")
    assert segment.client.run("false", check=False).returncode == 1


@requires("nft")
def test_packets_are_lost_in_the_middle(segment: Segment) -> None:
    segment.client.run("ip", "address", "add", "10.77.0.9/24", "dev", "eth0")
    program = "import socket; s = socket.socket(type=socket.SOCK_DGRAM)\n"
    program += "for _ in range(8): s.sendto(b'x', ('10.77.0.1', 5000))"
    send = (sys.executable, "-c", program)
    assert segment.lost() == 0
    segment.lose(100, 5000)
    segment.client.run(*send)
    assert segment.lost() == 8
    segment.lose(0, 5000, every=2)
    segment.client.run(*send)
    assert segment.lost() == 4
    segment.lose(0)
    segment.client.run(*send)
    assert segment.lost() == 0


@requires("no-such-program")
def never_called() -> None:
    raise AssertionError("ran without its program")


def test_a_missing_program_skips_at_a_desk_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        never_called()
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        never_called()


def test_another_machine_has_the_mac_that_it_is_given(segment: Segment) -> None:
    other = segment.host(address="10.77.0.7/24", mac="52:54:00:00:00:07", interface="net0")
    assert other.mac == "52:54:00:00:00:07"
    program = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 7)); print(s.recv(9).decode())"
    listener = other.popen(sys.executable, "-c", program, stdout=subprocess.PIPE)
    send = "import socket, sys; socket.socket(type=socket.SOCK_DGRAM).sendto(b'hello', ('10.77.0.7', 7))"
    while listener.poll() is None:
        segment.server.run(sys.executable, "-c", send)
    assert listener.communicate()[0] == "hello\n"
