"""The file is read again, and what comes of it: taken, as it was, or refused."""

import asyncio
import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from config.load import load
from config.model import Farm
from pxeboot.reloading import reloader as reloading
from pxeboot.reloading.prepared import Prepared, prepare
from pxeboot.reloading.reloader import MOST_LINES, Outcome, Reloader
from pxeboot.reloading.state import Reloads
from pxeboot.reloading.watching import Facts, Source, facts

GOOD = "server: {interfaces: [eth1]}\ndhcp: {subnets: [{subnet: 10.0.0.0/8}]}\n"

BROKEN = [
    pytest.param("dhcp: [\n", ":2:1: this is not YAML", id="syntax"),
    pytest.param(GOOD + "pools: [{name: a, image: gone}]\n", "gone", id="meaning"),
    pytest.param(GOOD + "web: {lisen: []}\n", "did you mean 'listen'?", id="unknown key"),
    pytest.param(
        GOOD + "images: {n: {path: /n}}\npools:\n- name: a\n  image: n\n  nodes:\n"
        "  - {name: m1, macs: ['52:54:00:00:00:01'], ip: 10.0.0.1}\n"
        "  - {name: m1, macs: ['52:54:00:00:00:02'], ip: 10.0.0.2}\n",
        "m1",
        id="duplicate host",
    ),
    pytest.param("", "the file is empty", id="empty"),
    pytest.param(GOOD[: len(GOOD) // 2], "", id="half"),
    pytest.param("dhcp: {subnets: [{subnet: 10.0.0.0/8}]}\n", "server.interfaces is empty", id="no interface"),
]


class World:
    """A file, what is served of it, and who reads it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "farm.yaml"
        self.file.write_text(GOOD)
        self.farm = load(self.file)
        self.reloads = Reloads(None, 0.0)
        self.swaps: list[Prepared] = []

    def reload(self, *, swap: Callable[[Prepared], None] | None = None) -> Outcome:
        async def main() -> Outcome:
            reloader = Reloader(
                Source.of(self.file), self.reloads, lambda: self.farm, prepare, swap or self._take,
                asked=asyncio.Event(),
            )  # fmt: skip
            return await reloader.reload()

        return asyncio.run(main())

    def _take(self, new: Prepared) -> None:
        self.swaps.append(new)
        self.farm = new.farm


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(("text", "mistake"), BROKEN)
def test_a_broken_file_is_refused_and_the_farm_stays(world: World, text: str, mistake: str) -> None:
    before: Farm = world.farm
    world.file.write_text(text)
    outcome = world.reload()
    assert outcome.result == "refused"
    assert any(mistake in line for line in outcome.mistakes), outcome.mistakes
    assert (world.farm, world.swaps, world.reloads.generation) == (before, [], 1)
    world.file.write_text(GOOD + "tftp: {windowsize: 3}\n")
    assert world.reload().result == "taken"
    assert (world.farm.tftp.windowsize, world.reloads.refused, world.reloads.generation) == (3, None, 2)


def test_a_file_that_is_gone_is_refused(world: World) -> None:
    world.file.unlink()
    assert world.reload().mistakes == [f"{world.file}:1:1: cannot be read: No such file or directory"]


def test_a_file_that_says_the_same_in_other_words_swaps_nothing(world: World) -> None:
    world.file.write_text(f"# a comment\n{GOOD}")
    assert world.reload().result == "unchanged"
    assert (world.swaps, world.reloads.generation) == ([], 1)


def test_a_certificate_that_waits_for_a_restart_is_not_looked_at(world: World) -> None:
    world.file.write_text(GOOD + "http: {tls: {certificate: /c, key: /k}}\n")
    outcome = world.reload()
    assert (outcome.result, len(outcome.needs_restart)) == ("unchanged", 1)


def test_a_wrong_certificate_is_refused_at_its_line(world: World, tmp_path: Path) -> None:
    world.farm = Farm.model_validate(
        {**world.farm.model_dump(), "nbd": {"tls": {"certificate": tmp_path / "was", "key": tmp_path / "was"}}}
    )
    world.file.write_text(GOOD + "nbd:\n  tls:\n    certificate: gone.pem\n    key: gone.key\n")
    assert [line.partition(": ")[0] for line in world.reload().mistakes] == [f"{world.file}:5:1"]


def test_what_needs_a_restart_is_said_and_the_rest_is_served(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.file.write_text(GOOD.replace("[eth1]", "[eth1], http_port: 81") + "tftp: {windowsize: 3}\n")
    with caplog.at_level(logging.INFO):
        outcome = world.reload()
    line = "server.http_port: 81 in the file, 80 until a restart"
    assert (outcome.result, [*outcome.needs_restart], [*world.reloads.needs_restart]) == ("taken", [line], [line])
    assert (world.farm.server.http_port, world.farm.tftp.windowsize) == (80, 3)
    assert world.swaps[0].plan.http_port == 80
    assert line in caplog.text


def test_many_mistakes_fill_the_log_only_once_and_so_far(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.file.write_text(GOOD + "".join(f"key{number}: 1\n" for number in range(100)))
    for _ in range(3):
        outcome = world.reload()
    assert len(outcome.mistakes) == 100
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == MOST_LINES + 2
    assert "and 80 more" in errors[-1].getMessage()


def test_a_fault_of_our_own_leaves_the_old_farm_and_the_reloader_alive(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Any) -> None:
        raise KeyError("a bug")

    world.file.write_text(GOOD + "tftp: {windowsize: 3}\n")
    assert "a fault of pxeboot itself (KeyError)" in world.reload(swap=fails).mistakes[0]
    assert gc.isenabled()
    assert world.reload().result == "taken"


def test_a_fault_that_stays_is_told_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: Any) -> None:
        raise KeyError("a bug")

    world.file.write_text(GOOD + "tftp: {windowsize: 3}\n")
    for _ in range(3):
        world.reload(swap=fails)
    assert sum(record.exc_info is not None for record in caplog.records) == 1


def test_a_look_that_fails_ends_nothing_and_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails = [RuntimeError("can't start new thread")] * 3

    def look(path: Path) -> Facts:
        if fails:
            raise fails.pop()
        return facts(path)

    monkeypatch.setattr(reloading, "facts", look)
    monkeypatch.setattr(reloading, "LOOK_S", 0.001)
    monkeypatch.setattr(reloading, "STILL_S", 0.001)

    async def main() -> None:
        taken = asyncio.Event()

        def take(new: Prepared) -> None:
            world.farm = new.farm
            taken.set()

        reloader = Reloader(
            Source.of(world.file), world.reloads, lambda: world.farm, prepare, take, asked=asyncio.Event()
        )
        world.file.write_text(GOOD + "tftp: {windowsize: 3}\n")
        running = asyncio.create_task(reloader.run())
        waiting = asyncio.create_task(taken.wait())
        await asyncio.wait([running, waiting], timeout=60, return_when=asyncio.FIRST_COMPLETED)
        assert not running.done()
        running.cancel()
        waiting.cancel()

    asyncio.run(main())
    assert world.farm.tftp.windowsize == 3
    assert sum("is tried again" in record.getMessage() for record in caplog.records) == 1
