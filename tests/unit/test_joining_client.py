"""pxeboot.joining.client: what it keeps for a controller that is away; with one: tests/net/test_joining_client.py."""

import asyncio
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import pytest

from pxeboot.joining import client
from pxeboot.joining.client import Client
from pxeboot.joining.once import Boot


def boot(number: int) -> Boot:
    digit = f"{number:x}"
    return Boot(
        id=digit * 16, cluster="prod", machine=f"m{number}", mac="52:54:00:00:00:01",
        address=IPv4Address("10.0.0.1"), began_s=1.0, folder=digit * 32, join=digit * 32, seed=digit * 64,
    )  # fmt: skip


def test_more_ends_than_are_kept_while_one_is_told_end_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST", 2)
    monkeypatch.setattr(client, "TELL_AGAIN_S", 0.0)
    heard: list[str] = []
    there = Client(tmp_path / "socket", list, lambda _: None, lambda _: None)

    async def request(_method: str, boot: Boot, *_: object) -> tuple[int, bytes]:
        if boot.machine == "m1":
            for number in range(2, 5):
                there.ended(boot_of[number])
            raise aiohttp.ClientError
        heard.append(boot.machine)
        return 200, b""

    boot_of = {number: boot(number) for number in range(1, 5)}
    monkeypatch.setattr(there, "_request", request)

    async def scenario() -> None:
        there.ended(boot_of[1])
        telling = asyncio.create_task(there._tell_all())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not telling.done()
        telling.cancel()

    asyncio.run(scenario())
    assert heard == ["m3", "m4"]
