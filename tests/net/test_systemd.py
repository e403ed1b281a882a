"""The daemon as systemd runs it: with sockets that outlive it, and a watchdog."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.lab import answers
from tests.support.segment import Segment, requires
from tests.support.served import Daemon, Prepared, make_grub
from tests.support.waiting import until

pytestmark = pytest.mark.net

PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def grub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_grub(tmp_path_factory.mktemp("grub"))


@pytest.fixture
def prepared(grub: Path, tmp_path: Path) -> Prepared:
    return Prepared(tmp_path, grub)


def wait_until_it_answers(prepared: Prepared) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not answers(prepared.control):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def client(segment: Segment, *argv: str) -> subprocess.Popen[str]:
    return segment.client.popen(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@requires("curl", "nbdinfo")
def test_nobody_is_refused_while_it_is_restarted(segment: Segment, prepared: Prepared) -> None:
    """Who comes meanwhile waits: for the server that systemd starts next, on the same sockets."""
    segment.client.run("ip", "address", "add", "10.77.0.99/24", "dev", "eth0")
    program = (sys.executable, "-m", "pxeboot", "serve", "-c", str(prepared.configuration))
    names = ("http-eth1:80:eth1", "nbd-eth1:10809:eth1")
    log, start = prepared.folder / "log", prepared.folder / "start"
    start.touch()
    with log.open("w") as file:
        segment.server.popen(
            *(sys.executable, "-m", "tests.support.keep_sockets", str(start), *names, "--", *program),
            stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    wait_until_it_answers(prepared)
    assert segment.client.run("nbdinfo", "--size", "nbd://10.77.0.1/node").stdout.strip().isdigit()
    served = next(pid for pid in segment.server.pids() if "serve" in arguments(pid))
    os.kill(served, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{served}").exists(), "it ends")

    web = client(segment, "curl", "-sS", "-m", "120", "-o", "/dev/null", "-w", "%{http_code}", "http://10.77.0.1/")
    disk = client(segment, "nbdinfo", "--size", "nbd://10.77.0.1/node")
    for port in (80, 10809):  # the kernel has taken their connections, and there is no server yet
        until(lambda: segment.server.run("ss", "-Htn", f"sport = :{port}").stdout, "the client waits")  # noqa: B023
    assert (web.poll(), disk.poll()) == (None, None)
    start.touch()
    assert web.communicate(timeout=120)[0] in ("200", "404")
    assert disk.communicate(timeout=120)[0].strip().isdigit()
    until(lambda: log.read_text().count("ready in") == 2, "the second server is ready")
    assert "Traceback" not in log.read_text()


def arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[2:5]


@requires("systemd-socket-activate", "curl")
def test_a_first_connection_may_start_it(segment: Segment, prepared: Prepared) -> None:
    """By systemd's own program; sockets of other names than ours are named in the log, and left."""
    segment.client.run("ip", "address", "add", "10.77.0.99/24", "dev", "eth0")
    log = prepared.folder / "log"
    python = ("-E", f"PYTHONPATH={Path(__file__).parent.parent.parent}", sys.executable, "-m", "pxeboot")
    listen = ("-l", "0.0.0.0:80", "-l", "0.0.0.0:10809", "-l", "0.0.0.0:8099", "--fdname", "http-eth1:nbd-eth1:other")
    with log.open("w") as file:
        segment.server.popen(
            *("systemd-socket-activate", *listen, *python, "serve", "-c", str(prepared.configuration)),
            stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    deadline = time.monotonic() + PATIENCE_S
    while "Listening on" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ask = ("curl", "-sS", "-m", "120", "-o", "/dev/null", "-w", "%{http_code}", "http://10.77.0.1/")
    got = segment.client.run(*ask, timeout=150)
    assert got.stdout in ("200", "404"), log.read_text()
    assert "the socket 'other' is not used" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_the_watchdog_is_fed_and_the_status_says_what_is_waited_for(
    segment: Segment, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    daemon = Daemon(segment.server, prepared.folder, "-c", str(prepared.configuration))
    assert daemon.first_word == "READY=1"
    heard: list[str] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(heard) < 8 and time.monotonic() < deadline:
        heard += [message] if (message := daemon.said()) else []
    assert heard[0] == "WATCHDOG=1\nSTATUS=serves eth1; 0 machines seen"
    assert heard[1:] == ["WATCHDOG=1"] * 7
    segment.server.run("ip", "link", "delete", "eth1")
    while "waits for eth1" not in (message := daemon.said()):
        assert time.monotonic() < deadline
    assert "STATUS=serves no interface; waits for eth1: there is no such interface" in message
