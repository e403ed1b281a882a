"""`pxeboot probe tftp` against our server and dnsmasq's, over good and bad paths, and against nobody."""

import hashlib
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pxeboot.cli import main
from tests.support.dnsmasq import Dnsmasq
from tests.support.fake_image import noise
from tests.support.segment import Segment, requires
from tests.support.serve_tree import serving
from tests.support.tftp_server import running
from tftp import wire

pytestmark = pytest.mark.net

SERVER, CLIENT, OTHER = "10.77.0.1", "10.77.0.2", "10.77.0.3"
CONTENT = noise("core.efi", 1_034_240)


@pytest.fixture
def segment() -> Iterator[Segment]:
    with Segment(client_address=f"{CLIENT}/24") as segment:
        yield segment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tftp"
    (folder / "grub").mkdir(parents=True)
    (folder / "grub/core.efi").write_bytes(CONTENT)
    (folder / "empty").touch()
    for path in (tmp_path, folder, folder / "grub"):
        path.chmod(0o755)
    return folder


@pytest.fixture
def ours(segment: Segment, folder: Path, tmp_path: Path) -> Iterator[None]:
    with running(folder, tmp_path / "server.log", segment.server.popen, 69):
        yield


def probe(segment: Segment, *argv: str, timeout_s: float = 1.0) -> tuple[int, Any]:
    """Return the exit status and what --json says; the text, if `argv` has --text."""
    form = () if "--text" in argv else ("--json",)
    said = segment.client.run(
        *(sys.executable, "-m", "pxeboot", "probe", "tftp", "--timeout", str(timeout_s), *form),
        *(word for word in argv if word != "--text"),
        check=False,
        timeout=60,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
    )
    assert said.returncode in (0, 1), said.stderr
    assert not said.stderr
    return said.returncode, json.loads(said.stdout) if form else said.stdout


@pytest.mark.usefixtures("ours")
def test_a_file_of_ours_arrives_and_all_that_was_seen_is_told(segment: Segment, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    code, said = probe(segment, SERVER, "grub/core.efi", "--output", str(kept))
    assert (code, said["problems"], said["notes"]) == (0, [], [])
    assert kept.read_bytes() == CONTENT
    assert said["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    [attempt] = said["attempts"]
    assert attempt["asked"] == {"blksize": "1468", "tsize": "0"}
    assert attempt["granted"] == {"blksize": "1468", "tsize": str(len(CONTENT))}
    assert attempt["answered_by"]["address"] == SERVER
    assert attempt["answered_by"]["port"] != 69
    assert (attempt["size_bytes"], attempt["blocks"]) == (len(CONTENT), len(CONTENT) // 1468 + 1)
    assert (attempt["blocks_again"], attempt["oacks_again"], attempt["sent_again"]) == (0, 0, 0)

    for asked, granted in ((("--blksize", "0", "--no-tsize"), None), (("--blksize", "1024"), "1024")):
        code, said = probe(segment, SERVER, "grub/core.efi", *asked)
        [attempt] = said["attempts"]
        assert (code, said["problems"]) == (0, [])
        assert (attempt["granted"] or {}).get("blksize") == granted
        assert said["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    code, said = probe(segment, SERVER, "empty", "--interface", "eth0")
    assert (code, said["attempts"][0]["blocks"], said["attempts"][0]["size_bytes"]) == (0, 1, 0)


@pytest.mark.usefixtures("ours")
def test_a_person_sees_it_at_80_columns(segment: Segment) -> None:
    code, text = probe(segment, SERVER, "grub/core.efi", "--text")
    lines = [line.rstrip() for line in text.splitlines()]
    assert code == 0
    assert lines[:3] == [
        f"'grub/core.efi' from {SERVER}",
        "  asked        blksize 1468, tsize 0",
        "  granted      blksize 1468, tsize 1034240",
    ]
    assert "  arrived      1,034,240 bytes in 705 blocks" in lines
    assert "  sent again   nothing" in lines
    assert f"  sha256       {hashlib.sha256(CONTENT).hexdigest()}" in lines
    assert lines[-1] == "It arrived whole."
    assert max(map(len, lines)) <= 80


@pytest.mark.usefixtures("ours")
def test_a_file_that_is_refused_is_said_in_words(segment: Segment) -> None:
    for name, words in (("grub/nosuch", "file not found"), ("../shadow", "access violation")):
        code, said = probe(segment, SERVER, name)
        assert (code, said["complete"], said["sha256"]) == (1, False, None)
        assert words in said["problems"][0]
        assert said["attempts"][0]["error"]["code"] in (1, 2)


@requires("dnsmasq")
def test_dnsmasq_is_told_the_same_way(segment: Segment, folder: Path, tmp_path: Path) -> None:
    argv = ("--enable-tftp", f"--tftp-root={folder}", "--dhcp-range=10.77.0.50,10.77.0.60")
    with Dnsmasq(segment.server, tmp_path, *argv):
        code, said = probe(segment, SERVER, "grub/core.efi")
        assert (code, said["problems"]) == (0, [])
        assert said["sha256"] == hashlib.sha256(CONTENT).hexdigest()
        assert said["attempts"][0]["granted"] == {"blksize": "1468", "tsize": str(len(CONTENT))}
        code, said = probe(segment, SERVER, "nosuch")
        assert (code, said["attempts"][0]["error"]["code"]) == (1, 1)


def test_where_nothing_listens_and_where_nobody_is_are_told_apart(segment: Segment) -> None:
    code, said = probe(segment, SERVER, "core.efi", timeout_s=0.3)
    assert code == 1
    assert said["problems"] == [
        f"{SERVER} says that nothing listens on its UDP port 69: is the server running, on that address?"
    ]
    code, said = probe(segment, f"{OTHER}:1069", "core.efi", timeout_s=1.5)
    assert code == 1
    assert said["problems"][0].startswith(f"there is no way to {OTHER}")
    segment.lose(100)
    code, said = probe(segment, SERVER, "core.efi", timeout_s=0.3)
    assert code == 1
    assert said["attempts"][0]["sent_again"] == 4
    assert said["problems"][0].startswith(f"no answer: UDP port 69 of {SERVER} was asked 5 times")


@requires("nft")
@pytest.mark.usefixtures("ours")
def test_a_path_that_swallows_large_packets_is_named_and_smaller_blocks_are_tried(segment: Segment) -> None:
    rule = "table bridge mtu {\nchain m {\ntype filter hook forward priority 0;\nmeta length > 1400 drop\n}\n}\n"
    segment.bridge.run("nft", "-f", "-", text_in=rule)
    code, said = probe(segment, SERVER, "grub/core.efi", timeout_s=0.7)
    assert (code, said["complete"]) == (1, True)
    assert said["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert [attempt["complete"] for attempt in said["attempts"]] == [False, True]
    assert said["attempts"][1]["asked"]["blksize"] == "1368"
    [problem] = said["problems"]
    assert "blksize 1468 was granted, and no block of it arrives" in problem
    assert "let the server grant no more: tftp.blksize 1368" in problem
    _, text = probe(segment, SERVER, "grub/core.efi", "--text", timeout_s=0.7)
    assert "wrong: " in text or "1368 granted" in text, "a server may remember"


@requires("nft")
@pytest.mark.usefixtures("ours")
def test_a_firewall_that_knows_only_port_69_is_named(segment: Segment) -> None:
    rule = "table ip f {\nchain i {\ntype filter hook input priority 0;\nudp dport != 69 drop\n}\n}\n"
    segment.server.run("nft", "-f", "-", text_in=rule)
    code, said = probe(segment, SERVER, "grub/core.efi", timeout_s=2.0)
    assert (code, len(said["attempts"])) == (1, 1)
    [problem] = said["problems"]
    assert problem.startswith("the server does not hear us at port ")
    assert "tftp.single_port: true" in problem


@requires("nft")
@pytest.mark.usefixtures("ours")
def test_a_lossy_path_costs_resends_and_they_are_counted(segment: Segment) -> None:
    segment.lose(0, every=40)
    code, said = probe(segment, SERVER, "grub/core.efi", timeout_s=0.5)
    [attempt] = said["attempts"]
    assert (code, said["complete"], said["problems"]) == (0, True, [])
    assert said["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert attempt["blocks_again"] + attempt["sent_again"] > 0
    assert "lost or late" in said["notes"][0]


def test_a_server_with_one_port_for_all_is_told_as_such(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "farm.yaml").write_text("server: {state: state, files: tftp}\ntftp: {single_port: true}\n")
    with serving(tmp_path / "farm.yaml", tmp_path / "log") as ports:
        argv = ["probe", "tftp", f"127.0.0.1:{ports.tftp}", "grub/core.efi"]
        done = CliRunner().invoke(main, argv)
        said = json.loads(CliRunner().invoke(main, [*argv, "--json"]).stdout)
    assert done.exit_code == 0
    assert f"127.0.0.1 port {ports.tftp}, the port that was asked" in done.stdout
    assert said["attempts"][0]["answered_by"] == {"address": "127.0.0.1", "port": ports.tftp}
    assert said["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_an_answer_from_another_address_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    """As of a server with two addresses that does not look at which of them was asked."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answers,
    ):
        asked.bind(("127.0.0.1", 0))
        answers.bind(("127.0.0.2", 0))

        def serve() -> None:
            for _ in range(5):
                _, client = asked.recvfrom(2000)
                answers.sendto(wire.OptionAck({"blksize": "1468"}).encode(), client)

        server = threading.Thread(target=serve)
        server.start()
        argv = ["probe", "tftp", f"127.0.0.1:{asked.getsockname()[1]}", "core.efi", "--timeout", "0.2", "--json"]
        done = CliRunner().invoke(main, argv)
        server.join()
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert said["problems"][0].startswith("the answer comes from 127.0.0.2, but 127.0.0.1 was asked")
    assert said["attempts"][0]["also_answered"][0]["address"] == "127.0.0.2"
    assert capfd.readouterr().err == ""
