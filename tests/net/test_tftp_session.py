"""One session whose disk, carrier and client are in the hands of the test."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config.content import Made, OpenFile
from tests.support.tftp_children import carrying
from tftp import wire
from tftp.carriers import Carriers
from tftp.engine import Finished, Outcome, Transfer
from tftp.kernel import Port, Sender, open_socket, transfer_socket
from tftp.netascii import Netascii
from tftp.options import Terms
from tftp.reader import Reader
from tftp.session import Session

pytestmark = pytest.mark.net

BLKSIZE = 1024
SIZE = 3 * 1024 * 1024 + 5
CANNOT = wire.Error(wire.ErrorCode.NOT_DEFINED, "the file cannot be read")


class Client:
    """A session, and the socket of its client."""

    def __init__(self, content: OpenFile | Netascii, threads: Executor, windowsize: int, carriers: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind(("127.0.0.1", 0))
        with open_socket("127.0.0.1", port=0) as listener:
            self.port = Port(transfer_socket("127.0.0.1", listener))
        self.sock.connect(self.port.sock.getsockname())
        self.ended: asyncio.Future[Finished] = self.loop.create_future()
        self.carriers = Carriers(carriers)
        self.transfer = Transfer(content.size_bytes, Terms(BLKSIZE, windowsize, None, {"tsize": "1"}))
        reader, peer = Reader(content, threads), self.sock.getsockname()
        self.session = Session(self.port, peer, self.transfer, reader, Sender(), self._end, self.carriers)
        self.session.start()
        self.block = 0
        self._last = b""

    def _end(self, _: Session, finished: Finished) -> None:
        self.ended.set_result(finished)

    def close(self) -> None:
        self.session.close()
        self.carriers.close()
        self.sock.close()

    def tell(self, packet: wire.Packet) -> None:
        self.sock.send(packet.encode())

    async def hear(self, within_s: float = 60.0) -> wire.Packet | None:
        """Return the next packet, but for copies of the one before: they come when this process was away."""
        try:
            async with asyncio.timeout(within_s):
                while (data := await self.loop.sock_recv(self.sock, 2000)) == self._last:
                    pass
        except TimeoutError:
            return None
        self._last = data
        return wire.decode(data)

    async def go_on(self, away_s: float = 0.0) -> bool:
        """Acknowledge what there is, and take the next window. Returns whether there was one."""
        await asyncio.sleep(away_s)
        self.tell(wire.Ack(self.block & 0xFFFF))
        for _ in range(self.transfer.terms.windowsize):
            if self.block == self.transfer.blocks:
                break
            while not (isinstance(data := await self.hear(), wire.Data) and data.block == (self.block + 1) & 0xFFFF):
                assert isinstance(data, wire.Data), data  # a copy, when this process was away
            self.block += 1
        return self.block < self.transfer.blocks

    async def until_carried(self, away_s: float = 0.0) -> int:
        """Go on until another process has the transfer, and return that."""
        for number in range(600):
            assert await self.go_on(away_s)
            if number % 10 == 9 and (pids := carrying(os.getpid())):
                return pids[0]
            await asyncio.sleep(0.0005)
        raise AssertionError("nobody carried it on")

    async def until_carrier_hangs(self) -> int:
        """Go on until another process has the transfer, and stop that; continue it once all is seen."""
        while True:
            carrier = await self.until_carried()
            os.kill(carrier, signal.SIGSTOP)
            if carrying(os.getpid()) == [carrier]:
                return carrier
            os.kill(carrier, signal.SIGCONT)  # it has handed it back: this process was away for too long


@pytest.fixture
def image(tmp_path: Path) -> OpenFile:
    (tmp_path / "image").write_bytes(os.urandom(SIZE))
    return OpenFile("image", os.open(tmp_path / "image", os.O_RDONLY), SIZE, "", None)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as threads:
        yield threads


@asynccontextmanager
async def begun(
    content: OpenFile | Netascii, threads: Executor, windowsize: int = 1, carriers: int = 0
) -> AsyncIterator[Client]:
    """A transfer whose OACK has arrived."""
    client = Client(content, threads, windowsize, carriers)
    try:
        assert isinstance(await client.hear(), wire.OptionAck)
        yield client
    finally:
        client.close()


def more_and_more_patiently(image: OpenFile, fetch: Callable[[OpenFile, float], Coroutine[Any, Any, None]]) -> None:
    """Run a test that needs this process to be awake, again with longer times if it was not.

    Each run has a descriptor of its own: a session closes it.
    """
    try:
        for patience in (1.0, 4.0):
            with suppress(AssertionError, ConnectionError):
                asyncio.run(fetch(replace(image, fd=os.dup(image.fd)), patience))
                return
        asyncio.run(fetch(replace(image, fd=os.dup(image.fd)), 16.0))
    finally:
        os.close(image.fd)


def text(size_bytes: int) -> Netascii:
    """A text, which is never read but by a thread."""
    return Netascii(Made("text", b"x" * size_bytes, etag=""))


@pytest.mark.parametrize("windowsize", [1, 4])
def test_what_is_still_read_is_not_sent_again_and_nobody_can_acknowledge_it(
    threads: ThreadPoolExecutor, windowsize: int
) -> None:
    gate = threading.Event()

    async def fetch() -> None:
        threads.submit(gate.wait)
        async with begun(text(1000), threads, windowsize) as client:
            for block in (0, 0, 1):
                client.tell(wire.Ack(block))
                assert await client.hear(0.4) is None
            client.tell(wire.ReadRequest(b"f"))
            assert await client.hear(0.4) is None
            assert client.session.bytes_sent == client.transfer.resent == 0
            assert not client.ended.done()
            gate.set()
            assert await client.hear() == wire.Data(1, b"x" * 1000)
            client.tell(wire.Ack(1))
            assert await client.ended == Finished(Outcome.COMPLETE, None)

    try:
        asyncio.run(fetch())
    finally:
        gate.set()


def test_a_disk_that_does_not_answer_is_told_to_the_client(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr("tftp.session.SILENCE_S", 0.3)

    async def fetch() -> None:
        threads.submit(gate.wait)
        async with begun(text(1000), threads) as client:
            client.tell(wire.Ack(0))
            assert await client.hear() == CANNOT
            finished = await client.ended
            assert finished == Finished(Outcome.FAILED, "its disk did not answer for 0 s")
            assert client.transfer.resent == 0

    try:
        asyncio.run(fetch())
    finally:
        gate.set()


def test_while_its_file_is_read_a_client_may_end_it(threads: ThreadPoolExecutor) -> None:
    gate = threading.Event()

    async def fetch() -> None:
        threads.submit(gate.wait)
        async with begun(text(1000), threads) as client:
            client.tell(wire.Ack(0))
            client.tell(wire.Error(0, "enough"))
            assert (await client.ended).outcome is Outcome.DECLINED

    try:
        asyncio.run(fetch())
    finally:
        gate.set()


def test_a_datagram_of_no_bytes_acknowledges_nothing(threads: ThreadPoolExecutor) -> None:
    async def fetch() -> None:
        async with begun(text(200 * BLKSIZE), threads) as client:
            while client.block < 64:  # what follows has to be read first
                await client.go_on()
            client.sock.send(b"")
            client.tell(wire.Error(0, "enough"))
            assert (await client.ended).outcome is Outcome.ABORTED
            assert client.transfer.acked == 63

    asyncio.run(fetch())


def test_a_client_that_is_some_milliseconds_away_is_carried_too(image: OpenFile, threads: ThreadPoolExecutor) -> None:
    async def fetch() -> None:
        async with begun(image, threads, carriers=1) as client:
            await client.until_carried(0.003)

    asyncio.run(fetch())


@pytest.mark.parametrize("windowsize", [1, 4])
def test_what_a_carrier_has_sent_is_counted_once(
    image: OpenFile, threads: ThreadPoolExecutor, windowsize: int
) -> None:
    async def fetch() -> None:
        async with begun(image, threads, windowsize, carriers=1) as client:
            for _ in range(2):
                await client.until_carried()
                client.tell(wire.Data(1, b"junk"))  # for which the session has it back
                await client.go_on()
            while await client.go_on():
                pass
            client.tell(wire.Ack(client.block & 0xFFFF))
            assert (await client.ended).outcome is Outcome.COMPLETE
            assert SIZE <= client.session.bytes_sent <= SIZE + client.transfer.resent * BLKSIZE

    asyncio.run(fetch())


def test_a_carrier_that_hangs_ends_its_transfer_and_the_client_is_told(
    image: OpenFile, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetch(image: OpenFile, patience: float) -> None:
        monkeypatch.setattr("tftp.session.SILENCE_S", 0.6 * patience)
        async with begun(image, threads, carriers=1) as client:
            for _ in range(4):  # one that is only slow is left in peace
                carrier = await client.until_carrier_hangs()
                client.loop.call_later(0.35, os.kill, carrier, signal.SIGCONT)
                assert await client.go_on()
            carrier = await client.until_carrier_hangs()
            try:
                client.tell(wire.Ack(client.block & 0xFFFF))
                while isinstance(answer := await client.hear(), wire.Data):
                    pass
                assert answer == CANNOT
                assert (await client.ended).outcome is Outcome.FAILED
                assert client.port.sock.fileno() == -1
            finally:
                os.kill(carrier, signal.SIGCONT)

    more_and_more_patiently(image, fetch)


def test_a_carrier_that_hangs_while_its_client_is_silent_is_waited_for_until_the_time_is_over(
    image: OpenFile, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fetch(image: OpenFile, patience: float) -> None:
        monkeypatch.setattr("tftp.engine.TRANSFER_S", 3.0 * patience)
        async with begun(image, threads, carriers=1) as client:
            carrier = await client.until_carrier_hangs()
            try:
                answer = await client.hear()
                assert answer == wire.Error(wire.ErrorCode.NOT_DEFINED, "the transfer took too long")
                assert (await client.ended).outcome is Outcome.SILENT
            finally:
                os.kill(carrier, signal.SIGCONT)

    more_and_more_patiently(image, fetch)
