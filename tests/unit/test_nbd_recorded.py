"""A conversation of QEMU's client with QEMU's server, with ours in the place of the latter.

Nothing else at hand speaks extended headers, so this is what they are judged by.
"""

from pathlib import Path

import pytest

from nbd.actions import Action, BlockStatus, Close, ExportInfo, Flush, OpenExport, Read, Send, Trim, Write, WriteZeroes
from nbd.engine import Session
from nbd.exports import Extent
from nbd.wire import Opt, Rep
from tests.support.nbd_peer import GREETING, reply

SIZE = 6 << 30
LINES = (Path(__file__).parents[1] / "data" / "nbd" / "qemu-10.txt").read_text().split("\n")[:-1]
RECORDED = [(line[0], bytes.fromhex(line[2:])) for line in LINES]


class Disk:
    """What QEMU's server had: zeros, but for two blocks."""

    def __init__(self) -> None:
        self.session = Session()
        self.done: list[Action] = []
        self.written: dict[int, bytes] = {}

    def answer(self, data: bytes) -> bytes:
        """Return what we answer to what the client sent."""
        return b"".join(self._carry_out(action) for action in self.session.receive(data, 0.0))

    def _carry_out(self, action: Action) -> bytes:
        self.done.append(action)
        replies = self.session.replies
        match action:
            case Send(data):
                return data
            case OpenExport():
                opened = self.session.export_opened(ExportInfo(SIZE, writable=True, fast_zero=True))
                return b"".join(self._carry_out(one) for one in opened)
            case Write(cookie, offset, data):
                self.written[offset] = data
                return replies.ok(cookie, action.start)
            case Read(cookie, offset, length):
                return replies.data(cookie, offset, length) + self.written[offset]
            case Trim(cookie, offset) | WriteZeroes(cookie, offset) | Flush(cookie, offset):
                return replies.ok(cookie, offset)
            case BlockStatus(_, offset):
                edges = sorted({0, 4096, 8192, 5 << 30, (5 << 30) + 4096, SIZE})
                end = next(edge for edge in edges if edge > offset)
                hole = offset not in (4096, 5 << 30)
                return replies.block_status(action, [Extent(end - offset, hole=hole, zero=hole)])
            case _:
                return b""


def transmission() -> int:
    """Return the number of the first line of the transmission phase."""
    return next(i for i, (who, data) in enumerate(RECORDED) if who == "C" and data.startswith(b"\x21\xe4\x1c\x71"))


def test_qemu_is_answered_as_it_answers_itself() -> None:
    disk, first = Disk(), transmission()
    disk.session.start(0.0)
    for who, data in RECORDED[:first]:
        if who == "C":
            disk.answer(data)
    for (asker, asked), (server, expected) in zip(RECORDED[first:-1:2], RECORDED[first + 1 :: 2], strict=True):
        assert (asker, server) == ("C", "S")
        answer = disk.answer(asked)
        if isinstance(disk.done[-1], BlockStatus):  # QEMU's number for the context is 0
            assert answer[32:36] == b"\0\0\0\1"
            answer = answer[:32] + bytes(4) + answer[36:]
        assert answer.hex() == expected.hex()
    disk.answer(RECORDED[-1][1])
    assert disk.done[-1] == Close(None)


def test_qemu_and_we_agree_on_the_handshake() -> None:
    disk = Disk()
    assert RECORDED[0] == ("S", GREETING)
    disk.session.start(0.0)
    answers = [disk.answer(data) for who, data in RECORDED[: transmission()] if who == "C"]
    assert answers[0] == RECORDED[2][1] == reply(Opt.EXTENDED_HEADERS, Rep.ACK)
    assert answers[1].replace(b"\0\0\0\1base", b"\0\0\0\0base") == RECORDED[4][1]


@pytest.mark.parametrize(
    "expected",
    [
        Write(1, 4096, b"\7" * 16, last=True, fua=False, start=4096),
        Write(1, 5 << 30, b"\x08" * 8, last=True, fua=True, start=5 << 30),
        WriteZeroes(1, 0, 512, no_hole=False, fast=False, fua=False),
        Trim(1, 512, 1024, fua=False),
        Read(1, 5 << 30, 8, whole=False),
        BlockStatus(1, 0, SIZE, req_one=True, contexts=(1,)),
        Flush(1),
    ],
)
def test_what_qemu_asks_is_understood(expected: Action) -> None:
    disk = Disk()
    disk.session.start(0.0)
    for who, data in RECORDED:
        if who == "C":
            disk.answer(data)
    assert expected in disk.done
