"""Other people's TFTP clients over bad lines: nothing is asserted about time here, `bench/tftp_loss.py` does that.

What a client does when one certain packet is lost is what `tests.support.tftp_models` and the waits of
`tftp.engine` are made after.
"""

import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bad_line import Faults, put_between
from tests.support.segment import Segment, requires
from tests.support.tftp_server import Server, running

pytestmark = pytest.mark.net

SERVER = "10.77.0.1"
FILE = random.Random(3).randbytes(2**18 + 77)
SHORT = random.Random(4).randbytes(2**15 + 5)
LONG = random.Random(5).randbytes(2**24)
CLIENTS = ("curl", "busybox", "tftp-hpa", "atftp")
programs = requires("tftp", "atftp", "curl", "busybox", "ip", "nft", "ethtool")


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment(client_address="10.77.0.2/24") as segment:
        yield segment


@pytest.fixture
def server(segment: Segment, tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "tftp"
    folder.mkdir()
    for name, content in (("file", FILE), ("short", SHORT), ("long", LONG)):
        (folder / name).write_bytes(content)
    with running(folder, tmp_path / "log", segment.server.popen, port=69) as server:
        yield server


def command(client: str, name: str, to: Path) -> list[str]:
    """How `client` is told to fetch `name` into the file `to`."""
    match client:
        case "curl":
            return ["curl", "-sS", "--tftp-blksize", "1428", "-o", str(to), f"tftp://{SERVER}/{name}"]
        case "busybox":
            return ["busybox", "tftp", "-g", "-b", "1428", "-r", name, "-l", str(to), SERVER]
        case "tftp-hpa":
            return ["tftp", "-m", "binary", SERVER, "-c", "get", name, str(to)]
        case "atftp":
            return ["atftp", "--option", "blksize 1428", "-g", "-r", name, "-l", str(to), SERVER]
        case "atftp-window":
            options = ["--option", "blksize 1428", "--option", "windowsize 16"]
            return ["atftp", *options, "-g", "-r", name, "-l", str(to), SERVER]
        case _:
            raise ValueError(client)


def fetched(segment: Segment, folder: Path, name: str, content: bytes, *clients: str) -> dict[str, str]:
    """Have clients fetch a file at the same time, each whole; return what each said.

    atftp ends its transfer at a second OACK, which it gets when it, or the server, was away for some seconds: it is
    then asked again.
    """
    said: dict[str, str] = {}
    left, codes = clients, dict.fromkeys(clients, 0)
    for _ in range(4):
        said |= fetched_once(segment, folder, name, codes, *left)
        left = tuple(client for client in left if codes[client] and "unexpected OACK" in said[client])
        if not left:
            break
    assert {client: code for client, code in codes.items() if code} == {}, said
    assert [client for client in clients if (folder / client).read_bytes() != content] == []
    return said


def fetched_once(segment: Segment, folder: Path, name: str, codes: dict[str, int], *clients: str) -> dict[str, str]:
    """Have clients fetch a file at the same time; note how each ended, and return what each said."""
    started = {
        client: segment.client.popen(
            *command(client, name, folder / client), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for client in clients
    }
    said = {client: process.communicate(timeout=400)[0] for client, process in started.items()}
    codes |= {client: process.returncode for client, process in started.items()}
    return said


def sent_again(server: Server, name: str, transfers: int = 1) -> list[int]:
    """How many blocks were sent again in each finished transfer of `name`, of which there are so many at least."""
    deadline = time.monotonic() + 90
    while len(lines := [line for line in server.lines() if f"got '{name}'" in line]) < transfers:
        assert time.monotonic() < deadline, server.lines()
        time.sleep(0.02)
    found = (re.search(r"(\d+) blocks? sent again", line) for line in lines)
    return [int(match[1]) if match else 0 for match in found]


@programs
def test_at_ten_per_cent_loss_every_client_gets_the_file_whole(
    segment: Segment, server: Server, tmp_path: Path
) -> None:
    # The bridge would otherwise see, and lose, a whole window as one packet: a switch never does.
    segment.server.run("ip", "link", "set", "dev", segment.server.interface, "gso_max_segs", "1")
    segment.lose(10)
    fetched(segment, tmp_path, "file", FILE, "curl", "busybox", "tftp-hpa")
    fetched(segment, tmp_path, "short", SHORT, "atftp", "atftp-window")
    assert segment.lost() > 0


FAULTS = [
    pytest.param(Faults(late=0.05, late_s=0.03), CLIENTS, id="late"),
    pytest.param(Faults(spoil=0.01), CLIENTS, id="spoiled"),
    # atftp ends its transfer when the OACK is doubled, whatever a server does.
    pytest.param(Faults(double=0.05), CLIENTS[:3], id="doubled"),
    pytest.param(Faults(lose=0.01, double=0.05, late=0.05, spoil=0.01), CLIENTS[:3], id="all"),
]


@programs
@pytest.mark.parametrize(("faults", "clients"), FAULTS)
def test_copies_delays_and_wrong_bits_change_no_byte(
    segment: Segment, server: Server, tmp_path: Path, faults: Faults, clients: tuple[str, ...]
) -> None:
    put_between(segment, faults, tmp_path)
    fetched(segment, tmp_path, "file", FILE, *clients)


@programs
def test_a_machine_that_is_far_away_is_sent_everything_once(segment: Segment, server: Server, tmp_path: Path) -> None:
    put_between(segment, Faults(delay_s=0.05), tmp_path)
    clients = (*CLIENTS, "atftp-window")
    for number in range(1, 5):  # again, when this machine was too busy for once
        fetched(segment, tmp_path, "short", SHORT, *clients)
        most = max(sent_again(server, "short", number * len(clients))[-len(clients) :])
        if most <= 2:
            return
    raise AssertionError(f"{most} blocks were sent again")


@programs
def test_a_machine_that_is_away_for_three_seconds_is_sent_a_few_copies(
    segment: Segment, server: Server, tmp_path: Path
) -> None:
    got = tmp_path / "got"
    for _ in range(8):  # again, when it had the whole file before we could stop it
        got.unlink(missing_ok=True)
        curl = segment.client.popen(*command("curl", "long", got))
        while curl.poll() is None and (not got.exists() or not got.stat().st_size):
            time.sleep(0.001)
        curl.send_signal(signal.SIGSTOP)
        if curl.poll() is None and got.stat().st_size < len(LONG) // 2:
            break
        curl.send_signal(signal.SIGCONT)
        assert curl.wait(300) == 0
    time.sleep(3)
    curl.send_signal(signal.SIGCONT)
    assert curl.wait(300) == 0
    assert got.read_bytes() == LONG
    assert 1 <= max(sent_again(server, "long")) <= 50  # a copy each 20 ms would be 150


@programs
@pytest.mark.parametrize("lost", ["RRQ", "OACK", "ACK 0", "DATA 1", "ACK 1", "DATA 24", "ACK 24"])
def test_whichever_packet_is_lost_the_file_arrives(
    segment: Segment, server: Server, tmp_path: Path, lost: str
) -> None:
    put_between(segment, Faults(drop={lost: 1}), tmp_path)
    fetched(segment, tmp_path, "short", SHORT, "curl", "busybox", "atftp")


@programs
def test_atftp_confirms_a_copy_once_and_then_waits_for_five_seconds_of_silence(
    segment: Segment, server: Server, tmp_path: Path
) -> None:
    put_between(segment, Faults(drop={"ACK 7": 2}), tmp_path)
    said = fetched(segment, tmp_path, "short", SHORT, "atftp", "curl")
    assert "timeout: retrying" in said["atftp"]  # so one lost packet in ten costs it minutes, as in the bench
    assert len(sent_again(server, "short", 2)) == 2
