"""The farm's page, however large the farm is and whatever happens in it."""

import asyncio
import json
import re
import time
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from config.events import Stage
from pxeboot.web import board, farm
from pxeboot.web.facts import Sources
from pxeboot.web.farm import FarmPage
from pxeboot.web.static import Static
from pxeboot.web.templates import Templates
from tests.support import made_up_farm

COUNT = 80
"""Machines: 4 of 80 are stuck, 12 boot, 60 are up, 4 are not seen."""
PATIENCE_S = 60


def page_of(count: int = COUNT) -> FarmPage:
    """Return the page of a busy farm. Inside an event loop."""
    listed, timeline = made_up_farm.busy(count, time.time())

    async def looked_up(_: object) -> Mapping[str, str]:
        return {}

    return FarmPage(timeline, Sources(lambda: listed, looked_up=looked_up), Templates(Static()), asyncio.Event())


async def get(page: FarmPage, path: str = "/") -> str:
    async with asyncio.timeout(PATIENCE_S):
        answer = await page.answer(make_mocked_request("GET", path))
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    return answer.body.decode()


def test_a_machine_is_found_by_why_it_is_stuck() -> None:
    """What a machine failed with is both its detail and why it is stuck, and only shown as the second."""

    async def ask() -> str:
        listed, timeline = made_up_farm.busy(COUNT, time.time())
        timeline.record("m1c7", Stage.FAILED, "the disk is on Fire", time.time())
        return await get(
            FarmPage(timeline, Sources(lambda: listed), Templates(Static()), asyncio.Event()), "/?q=on+FIRE"
        )

    assert re.findall(r'data-name="(\w+)"', asyncio.run(ask())) == ["m1c7"]


def test_a_search_does_not_find_what_the_page_masks() -> None:
    async def ask(text: str) -> list[str]:
        listed, timeline = made_up_farm.busy(COUNT, time.time())
        timeline.record("m1c7", Stage.FAILED, "login failed: password=hunter2", time.time())
        page = FarmPage(timeline, Sources(lambda: listed), Templates(Static()), asyncio.Event())
        return re.findall(r'data-name="(\w+)"', await get(page, f"/?q={text}"))

    assert asyncio.run(ask("password=")) == ["m1c7"]
    for guess in ("password=h", "hunter2"):
        assert asyncio.run(ask(guess)) == [], guess


def states(html: str) -> list[str]:
    return re.findall(r'<tr class="(\w+)" role="row" data-name', html)


def test_all_of_a_farm_that_is_not_large_are_shown_in_order() -> None:
    async def ask() -> str:
        return await get(page_of())

    html = asyncio.run(ask())
    assert states(html) == ["stuck"] * 4 + ["booting"] * 12 + ["up"] * 60 + ["quiet"] * 4
    assert "data-cut" not in html
    assert 'id="more" hidden' in html


def test_of_a_large_farm_those_are_shown_first_that_need_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm, "MOST_SHOWN", 20)

    async def ask() -> tuple[str, str, str]:
        page = page_of()
        return await get(page), await get(page, "/?state=quiet"), await get(page, "/?q=m1c3")

    whole, quiet, found = asyncio.run(ask())
    assert states(whole) == ["stuck"] * 4 + ["booting"] * 12 + ["up"] * 4
    assert "20 of 80 are shown" in whole
    assert re.findall(r"rowheader\">(Up|Not seen booting) <span>(\d+)", whole) == [
        ("Up", "60"),
        ("Not seen booting", "4"),
    ]
    assert all("data-cut" in html for html in (whole, quiet, found))
    assert states(quiet) == ["quiet"] * 4
    assert 'id="more" hidden' in quiet
    assert sorted(re.findall(r'data-name="(\w+)"', found)) == ["m1c3", *(f"m1c{n}" for n in range(30, 40))]


@pytest.mark.parametrize(("most", "rows"), [(COUNT, COUNT), (COUNT - 1, 0)])
def test_who_looks_at_a_large_farm_is_told_that_something_changed_and_not_each_row(
    monkeypatch: pytest.MonkeyPatch, most: int, rows: int
) -> None:
    monkeypatch.setattr(farm, "MOST_SHOWN", most)

    async def ask() -> Any:
        page = page_of()
        await get(page)
        event = await page.stream._event(0, page.board.version)
        return json.loads(event.partition(b"data: ")[2])

    told = asyncio.run(ask())
    assert (len(told["rows"]), told["cut"], sum(told["counts"].values())) == (rows, rows == 0, COUNT)
    assert "Images" in told["side"]


def test_a_farm_in_which_all_changes_all_the_time_has_a_page_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited until the board had seen all changes: for ever, of 10,000 machines that all fetch their roots."""
    monkeypatch.setattr(board, "AT_ONCE", 5)
    monkeypatch.setattr(farm, "BEHIND_WAIT_S", 0.05)

    async def ask() -> str:
        listed, timeline = made_up_farm.at_once(COUNT, time.time())
        names = [node.name for pool in listed.pools for node in pool.nodes]

        async def looked_up(_: object) -> Mapping[str, str]:
            return {}

        async def storm() -> None:
            for turn in range(1_000_000):
                made_up_farm.storm(timeline, names, time.time(), turn)
                await asyncio.sleep(0)

        storming = asyncio.create_task(storm())
        sources = Sources(lambda: listed, looked_up=looked_up)
        html = await get(FarmPage(timeline, sources, Templates(Static()), asyncio.Event()))
        storming.cancel()
        return html

    html = asyncio.run(ask())
    assert states(html) == ["booting"] * COUNT
    assert "0 of 10 up" in html, "what stands beside the machines is known, too"
