"""pxeboot.shared.link: how it ends, and a disk that is full; with a controller: tests/net/test_dhcp_shared.py."""

import asyncio
import errno
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import pytest
from aiohttp.http_exceptions import TransferEncodingError

from config.model import Farm
from dhcp.clock import SteadyClock
from dhcp.engine import Server
from dhcp.journal import Journal
from dhcp.leases import Lease
from dhcp.plan import plan
from dhcp.shared_wire import Done, Remove, Unknown, Write
from dhcp.store import LeaseStore
from pxeboot.shared.link import Link
from tests.support.crash_disk import CrashDisk


@pytest.mark.parametrize("turns", range(6))
def test_a_link_that_is_cancelled_as_it_connects_again_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """It waited for what it had cancelled itself, and took its own cancellation for that of the other."""
    store = LeaseStore.open(tmp_path / "leases")

    async def news(_session: aiohttp.ClientSession) -> None:
        try:
            await asyncio.Event().wait()
        finally:  # a connection that is closed
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def scenario() -> None:
        link = Link(tmp_path / "socket", "farm", Server(plan(Farm()), [], store.clock()), store)
        monkeypatch.setattr(link, "_news", news)
        async with aiohttp.ClientSession() as session:
            listening = asyncio.create_task(link._listen(session))
            for _ in range(5):
                await asyncio.sleep(0)
            link._lose("the clock was set")
            for _ in range(turns):
                await asyncio.sleep(0)
            listening.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            ended = listening.done()
            listening.cancel()
            await asyncio.wait({listening})
            assert ended

    try:
        asyncio.run(scenario())
    finally:
        store.close()


def test_an_answer_that_no_program_would_give_leaves_the_question_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What aiohttp's parser raises of a body may be no `ClientError`, and would end the daemon."""
    store = LeaseStore.open(tmp_path / "leases")

    def post(*_: object, **__: object) -> None:
        raise TransferEncodingError("chunk size")

    async def scenario() -> None:
        link = Link(tmp_path / "socket", "farm", Server(plan(Farm()), [], store.clock()), store)
        link.book.begin_list()
        link.book.list_over()
        link.book.expire(store.clock())
        assert not link.book.away
        monkeypatch.setattr(aiohttp.ClientSession, "post", post)
        async with aiohttp.ClientSession() as session:
            outcomes = await link._outcomes(session, [Remove(IPv4Address("10.0.0.1"), "1.x")])
        assert outcomes == [Unknown("a fault of our own")]

    try:
        asyncio.run(scenario())
    finally:
        store.close()


def test_a_full_disk_costs_nobody_the_lease_that_the_api_has(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While the API is away our disk is all that remembers, so that nothing is told that is not on it."""
    disk = CrashDisk()
    store = LeaseStore(Journal(tmp_path / "leases", disk), SteadyClock())
    farm = Farm.model_validate({"dhcp": {"subnets": [{"subnet": "10.77.0.0/24", "pool": "10.77.0.10-10.77.0.11"}]}})

    async def scenario() -> None:
        link = Link(tmp_path / "socket", "farm", Server(plan(farm), [], store.clock()), store)
        link.book.begin_list()
        link.book.list_over()
        link.book.expire(now := store.clock())
        disk.fail("write", errno.ENOSPC)
        for renewed, error in ((False, None), (True, errno.ENOSPC)):
            answer: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
            lease = Lease(IPv4Address("10.77.0.10"), "02:00:00:00:00:01", int(now) + 900 + 60 * renewed)
            if renewed:
                link.book.away_now()
            store.put(lease, answer.set_result)
            if not renewed:
                wish = link._asks.popleft()
                assert isinstance(wish, Write)
                link._do(link.book.answered(wish, Done(wish.entry), now))
            said = await asyncio.wait_for(answer, 60)
            assert error == (said.errno if isinstance(said, OSError) else None)
        assert store.degraded is not None

    try:
        asyncio.run(scenario())
    finally:
        store.close()
    assert caplog.text.count("those that the API has are given all the same") == 1


def test_a_full_disk_is_told_of_once_though_some_leases_are_on_it_already(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk = CrashDisk()
    store = LeaseStore(Journal(tmp_path / "leases", disk), SteadyClock())
    farm = Farm.model_validate({"dhcp": {"subnets": [{"subnet": "10.77.0.0/24", "pool": "10.77.0.10-10.77.0.19"}]}})

    async def scenario() -> None:
        link = Link(tmp_path / "socket", "farm", Server(plan(farm), [], store.clock()), store)
        link.book.begin_list()
        link.book.list_over()
        link.book.expire(now := store.clock())
        leases = [
            Lease(IPv4Address(f"10.77.0.1{number}"), f"02:00:00:00:00:0{number}", int(now) + 900)
            for number in range(4)
        ]
        for number, lease in enumerate((leases[0], leases[1], leases[0], leases[2], leases[0], leases[3])):
            if number == 1:
                disk.fail("write", errno.ENOSPC)
            answer: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
            store.put(lease, answer.set_result)
            while link._asks:
                wish = link._asks.popleft()
                assert isinstance(wish, Write)
                link._do(link.book.answered(wish, Done(wish.entry), now))
            assert await asyncio.wait_for(answer, 60) is None

    try:
        asyncio.run(scenario())
    finally:
        store.close()
    assert caplog.text.count("those that the API has are given all the same") == 1
