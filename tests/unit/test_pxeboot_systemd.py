"""What systemd is told, and what is taken from it."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pxeboot import systemd


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end, to which we are told to send."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.delenv("WATCHDOG_USEC", raising=False)
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield sock


def told(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


def test_nothing_is_sent_where_nobody_started_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify("READY=1")
    asyncio.run(systemd.keep_alive(lambda: "well", asyncio.Event()))  # and it ends


def test_an_abstract_socket_is_a_socket_too(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"pxeboot-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        systemd.notify("READY=1")
        assert told(sock) == "READY=1"


def test_a_full_queue_is_not_waited_for(manager: socket.socket) -> None:
    for _ in range(10_000):  # net.unix.max_dgram_qlen is 10 or 512
        systemd.notify("WATCHDOG=1", wait=False)


def test_that_we_are_ready_is_said_as_soon_as_there_is_room_for_it(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "AGAIN_S", 0.01)
    full = 0
    while systemd.notify("WATCHDOG=1", wait=False):
        full += 1

    async def say() -> None:
        saying = asyncio.create_task(systemd.insist("READY=1"))
        await asyncio.sleep(0.05)
        assert not saying.done()
        for _ in range(full):
            assert told(manager) == "WATCHDOG=1"
        await asyncio.wait_for(saying, 30)
        assert told(manager) == "READY=1"

    asyncio.run(say())


def test_a_manager_that_does_not_read_keeps_nobody_from_stopping(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(systemd, "PATIENCE_S", 0.01)
    for _ in range(10_000):
        systemd.notify("WATCHDOG=1", wait=False)
    systemd.notify("STOPPING=1")
    assert caplog.messages == ["the service manager cannot be told STOPPING=1: timed out"]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "20000000"}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_ours_if_systemd_says_so(environ: dict[str, str], seconds: float | None) -> None:
    assert systemd.watchdog_s(environ) == seconds


def test_a_loop_that_turns_says_so_and_how_it_stands(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "40000")
    lines = iter(["serves eth1", "serves eth1", "serves\nREADY=1", *["serves eth2"] * 1000])

    async def turn() -> list[str]:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        task = loop.create_task(systemd.keep_alive(lambda: next(lines), ready))
        await asyncio.sleep(0)  # nothing is said before it is ready
        ready.set()
        heard = [await loop.run_in_executor(None, told, manager) for _ in range(5)]
        task.cancel()
        return heard

    assert asyncio.run(turn()) == [
        "READY=1",
        "WATCHDOG=1\nSTATUS=serves eth1",
        "WATCHDOG=1",
        "WATCHDOG=1\nSTATUS=serves READY=1",
        "WATCHDOG=1\nSTATUS=serves eth2",
    ]


@pytest.mark.parametrize(
    ("waits", "machines", "refused", "line"),
    [
        ({}, 0, None, "serves eth1; 0 machines seen"),
        ({"eth2": "it is down"}, 1, None, "serves eth1; waits for eth2: it is down; 1 machine seen"),
        ({}, 2, ["farm.yaml:3:1: no"], "serves eth1; the farm's file is refused: farm.yaml:3:1: no; 2 machines seen"),
    ],
)
def test_a_person_reads_what_it_waits_for_and_what_is_wrong(
    waits: dict[str, str], machines: int, refused: list[str] | None, line: str
) -> None:
    assert systemd.status_line(["eth1"], waits, machines, refused) == line


@pytest.mark.parametrize("listens", [True, False])
def test_a_manager_that_cannot_be_told_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, listens: bool
) -> None:
    if listens:  # it was: its socket is there, and nobody reads it
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    systemd.notify("READY=1\nSTATUS=well")
    systemd.notify("WATCHDOG=1", wait=False)
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith("the service manager cannot be told READY=1: ")
