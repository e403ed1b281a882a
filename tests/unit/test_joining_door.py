"""The door in front of what is given once, with a controller that does as it is told."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import wraps
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, ParamSpec

import pytest

from config.content import Content, Gone, Made, NotNow, NotYours, Once, Withheld
from config.events import Stage
from config.model import Farm
from pxeboot.bootfiles.machine import Farmhouse, Machine
from pxeboot.joining.client import Client, LaterJoin, NoJoin
from pxeboot.joining.door import Door
from pxeboot.joining.once import Boot
from pxeboot.joining.store import FILE, BootStore
from pxeboot.joining.talk import JoinGiven, Refused, Told, dump

P = ParamSpec("P")
M1, M2, STRANGER = (IPv4Address(f"10.0.0.{last}") for last in (10, 11, 99))
MAC = "52:54:00:00:00:01"
CARD = "01-52-54-00-00-00-01"
IMAGE = "ab" * 32
NOW_S = 1_800_000_000.0
COMMAND = "kubeadm join api:6443 --token abcdef.0123456789abcdef"


def awaited(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test in an event loop of its own."""

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class FakeTree:
    """Machines by their addresses, and an archive for each."""

    def __init__(self, farm: Farm) -> None:
        self.house = Farmhouse(farm)
        self.refused = False
        self.archives = True
        self.moved: dict[IPv4Address, IPv4Address] = {}
        """Addresses that have become those of other machines."""

    async def lookup(self, name: str, peer: IPv4Address) -> Content | None:
        return Made(name, b"of the tree", "etag")

    def machine_at(self, peer: IPv4Address) -> Machine | None:
        node = self.house.node_at(self.moved.get(peer, peer))
        return None if node is None else self.house.machine(node.macs[0], peer, node.name)

    def machine_of(self, mac: str, address: IPv4Address, name: str) -> Machine | None:
        return self.house.machine(mac, address, name)

    def is_refused(self, machine: Machine) -> bool:
        return self.refused

    async def archive(self, image_id: str, machine: Machine, card: str, join: str) -> Made | None:
        return (
            Made("node.cpio", f"{machine.name} {card} {join}".encode(), "etag", secret=True) if self.archives else None
        )


class FakeClient(Client):
    """A controller that gives what it is told to, without a socket."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"), list, lambda _: pytest.fail("nobody is told"), lambda _: None)
        self.gives: JoinGiven | Exception = JoinGiven(COMMAND, "abcdef", NOW_S + 600)
        self.asked: list[Boot] = []
        self.told: list[Boot] = []
        self.over: list[Boot] = []
        self.go = asyncio.Event()
        self.go.set()

    def begins(self, boot: Boot) -> None:
        self.told.append(boot)

    def ended(self, boot: Boot) -> None:
        self.over.append(boot)

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def ask(self, boot: Boot) -> JoinGiven:
        self.asked.append(boot)
        await self.go.wait()
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


class Entrance:
    """A door, and all around it."""

    def __init__(self, folder: Path, **cluster: Any) -> None:
        farm = Farm.model_validate({
            "images": {"node": {"path": "/node"}},
            "clusters": {"prod": cluster, "other": {}, "shared": {"lts_conf": "/lts.conf"}},
            "pools": [
                {"name": "a", "image": "node", "cluster": "prod",
                 "nodes": [{"name": "m1", "macs": [MAC], "ip": str(M1)}]},
                {"name": "b", "image": "node", "cluster": "prod",
                 "nodes": [{"name": "m2", "macs": ["52:54:00:00:00:02"], "ip": str(M2)}]},
            ],
            "tags": {"all": {"labels": {"a": "b"}}},
        })  # fmt: skip
        self.tree = FakeTree(farm)
        self.store = BootStore(folder / FILE)
        self.story: list[tuple[str, Stage, str, float]] = []
        self.door = Door(farm, self.store, lambda: self.tree, self.tell, lambda: NOW_S)
        self.client = FakeClient()
        if self.door.client is not None:
            self.door.client = self.client

    def tell(self, boot: Boot, stage: Stage, detail: str, at_s: float) -> None:
        self.story.append((boot.machine, stage, detail, at_s))

    def begin(self, address: IPv4Address = M1) -> Boot:
        """Give a machine its menu."""
        machine = self.tree.machine_at(address)
        assert machine is not None
        folder, kept = self.door.begins(machine, True)
        kept.result(10)
        boot = self.store.newest(machine.name)
        assert boot is not None
        assert boot.folder == folder
        return boot

    async def get(self, name: str, peer: IPv4Address = M1, there: Callable[[], bool] = lambda: True) -> bytes:
        """Fetch a name. Raises `Withheld`."""
        found = await self.door.lookup(name, peer)
        assert found is not None
        if isinstance(found, Once):
            found = await found.take(there)
        assert isinstance(found, Made)
        return found.data

    async def refusal(self, name: str, peer: IPv4Address = M1) -> Withheld:
        with pytest.raises(Withheld) as caught:
            await self.get(name, peer)
        return caught.value


@pytest.fixture
def entrance(tmp_path: Path) -> Entrance:
    return Entrance(tmp_path)


def cpio(boot: Boot, card: str = CARD) -> str:
    return f"images/{IMAGE}/{card}/{boot.folder}/node.cpio"


@awaited
async def test_the_archive_alone_says_where_the_join_command_is(entrance: Entrance) -> None:
    boot = entrance.begin()
    assert await entrance.get(cpio(boot)) == f"m1 {MAC} join/{boot.join}".encode()
    text = await entrance.get(f"join/{boot.join}")
    assert text.decode().splitlines() == [COMMAND, "good_for: 600"]
    assert entrance.story == [("m1", Stage.FETCHED, f"its join command, from {M1}", NOW_S)]
    assert entrance.door.counts == {"given": 1}


@awaited
async def test_what_is_given_once_is_secret_to_every_cache(entrance: Entrance) -> None:
    boot = entrance.begin()
    for name in (cpio(boot), f"join/{boot.join}"):
        found = await entrance.door.lookup(name, M1)
        assert isinstance(found, Once)
        made = await found.take(lambda: True)
        assert made.secret
        assert made.data
        assert not any(secret in repr(made) for secret in (boot.join, "0123456789abcdef"))


@awaited
async def test_everything_else_is_the_trees(entrance: Entrance) -> None:
    for name in ("grub/grub.cfg", f"images/{IMAGE}/{CARD}/node.cpio", "join", "join/a/b", "images/a/b/c/d"):
        assert await entrance.get(name) == b"of the tree"


@awaited
async def test_of_two_that_fetch_at_once_one_is_given_it(entrance: Entrance) -> None:
    boot = entrance.begin()
    entrance.client.go.clear()
    both = [asyncio.create_task(entrance.get(f"join/{boot.join}")) for _ in range(2)]
    await asyncio.sleep(0)
    entrance.client.go.set()
    given, refused = sorted(await asyncio.gather(*both, return_exceptions=True), key=lambda got: isinstance(got, Gone))
    assert isinstance(given, bytes)
    assert isinstance(refused, Gone)
    assert len(entrance.client.asked) == 1


@awaited
async def test_who_has_hung_up_spends_nothing(entrance: Entrance) -> None:
    boot = entrance.begin()
    for name in (cpio(boot), f"join/{boot.join}"):
        with pytest.raises(ConnectionResetError):
            await entrance.get(name, there=lambda: False)
        await entrance.get(name)


@awaited
async def test_an_archive_that_cannot_be_made_spends_nothing(entrance: Entrance) -> None:
    boot = entrance.begin()
    entrance.tree.archives = False
    assert isinstance(await entrance.refusal(cpio(boot)), NotYours)
    entrance.tree.archives = True
    await entrance.get(cpio(boot))


@awaited
async def test_the_archive_is_that_of_the_card_that_boots(entrance: Entrance) -> None:
    boot = entrance.begin()
    assert isinstance(await entrance.refusal(cpio(boot, "01-52-54-00-00-00-02")), NotYours)
    await entrance.get(cpio(boot))


@pytest.mark.parametrize("peer", [M2, STRANGER])
@awaited
async def test_nobody_else_learns_whether_a_name_is_good(entrance: Entrance, peer: IPv4Address) -> None:
    boot = entrance.begin()
    no_name = await entrance.refusal("join/" + "0" * 32, peer)
    for name in (f"join/{boot.join}", cpio(boot)):
        assert type(await entrance.refusal(name, peer)) is type(no_name) is NotYours
    await entrance.get(f"join/{boot.join}")
    assert isinstance(await entrance.refusal(f"join/{boot.join}", peer), NotYours)
    assert isinstance(await entrance.refusal(f"join/{boot.join}", M1), Gone)
    assert entrance.door.counts == {"unknown": 1, "address": 3, "given": 1, "spent": 1}


@awaited
async def test_a_machine_whose_intent_is_refuse_is_given_nothing(entrance: Entrance) -> None:
    boot = entrance.begin()
    entrance.tree.refused = True
    assert isinstance(await entrance.refusal(f"join/{boot.join}"), NotYours)
    assert isinstance(await entrance.refusal(cpio(boot)), NotYours)


@pytest.mark.parametrize("becomes", ["another's", "nobody's", "refuse"])
@awaited
async def test_who_has_lost_the_right_while_it_waited_is_given_nothing(entrance: Entrance, becomes: str) -> None:
    boot = entrance.begin()
    entrance.client.go.clear()
    waits = asyncio.create_task(entrance.get(f"join/{boot.join}"))
    async with asyncio.timeout(60):
        while not entrance.client.asked:  # noqa: ASYNC110
            await asyncio.sleep(0)
    if becomes == "refuse":
        entrance.tree.refused = True
    else:
        entrance.tree.moved = {M1: M2 if becomes == "another's" else STRANGER}
    entrance.client.go.set()
    with pytest.raises(NotYours):
        await waits
    entrance.tree.refused, entrance.tree.moved = False, {}
    await entrance.get(f"join/{boot.join}")


@awaited
async def test_it_is_not_given_what_cannot_be_noted_as_given(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = entrance.begin()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pxeboot.written.replace_file", full)
    with pytest.raises(Gone, match="cannot keep"):
        await entrance.get(f"join/{boot.join}")
    assert isinstance(await entrance.refusal(f"join/{boot.join}"), Gone), "it may be on disk after all"
    assert (entrance.story[0][1], "No space left" in entrance.story[0][2]) == (Stage.FAILED, True)


@awaited
async def test_no_answer_costs_the_machine_nothing(entrance: Entrance) -> None:
    boot = entrance.begin()
    entrance.client.gives = LaterJoin("the controller does not answer", 1000)
    refused = await entrance.refusal(f"join/{boot.join}")
    assert isinstance(refused, NotNow)
    assert (refused.why, refused.retry_after_s) == ("the controller does not answer", 60)
    assert entrance.story[-1][1:3] == (Stage.JOINING, "waits for its join command: the controller does not answer")
    entrance.client.gives = JoinGiven(COMMAND, "abcdef", NOW_S + 600)
    await entrance.get(f"join/{boot.join}")
    assert {asked.seed for asked in entrance.client.asked} == {boot.seed}


@awaited
async def test_a_refusal_of_the_controller_ends_the_boot(entrance: Entrance) -> None:
    boot = entrance.begin()
    entrance.client.gives = NoJoin("another machine\r\nis alive")
    assert isinstance(await entrance.refusal(f"join/{boot.join}"), Gone)
    assert entrance.story[-1][1:3] == (
        Stage.FAILED, "it may not join: another machine  is alive; it starts again by itself"
    )  # fmt: skip
    assert (await entrance.refusal(f"join/{boot.join}")).why == "its boot is over: another machine  is alive"
    assert len(entrance.client.asked) == 1


@awaited
async def test_what_the_controller_tells_is_of_the_newest_boot_once(entrance: Entrance) -> None:
    old, boot = entrance.begin(), entrance.begin()

    def told(of: Boot, stage: Stage, at_s: float, cluster: str = "prod") -> None:
        entrance.door.hear(Told(cluster, "m1", of.id, stage, at_s, "so"))

    told(old, Stage.APPROVED, 1.0)
    told(boot, Stage.APPROVED, 2.0, "other")
    entrance.door.hear(Told("prod", "m9", "", Stage.FAILED, 1.0, "who?"))
    for _ in range(2):
        told(boot, Stage.APPROVED, 3.0)
        told(boot, Stage.READY, 4.0)
    assert entrance.story == [("m1", Stage.APPROVED, "so", 3.0), ("m1", Stage.READY, "so", 4.0)]
    after = entrance.store.newest("m1")
    assert after is not None
    assert (after.ended, after.seed) == ("its Node is Ready", "")


@awaited
async def test_what_was_fetched_is_not_counted_as_still_to_be_fetched(entrance: Entrance) -> None:
    one, _ = entrance.begin(M1), entrance.begin(M2)
    await entrance.get(f"join/{one.join}")
    joins = entrance.door.status()["joins"]
    assert joins == {"open": 1, "given": 1}


@awaited
async def test_a_boot_that_is_not_its_machines_newest_is_not_told_of(entrance: Entrance) -> None:
    """A controller that has just started would take it for the newest, and end that."""

    class Heard(Client):
        async def _request(self, method: str, boot: Boot, more: str, total_s: float, body: str) -> tuple[int, bytes]:
            heard.append((method, boot.id))
            return 503, dump(Refused("not told of yet", 1.0)).encode()

    heard: list[tuple[str, str]] = []
    client = Heard(Path("/nowhere"), list, entrance.door._begun, lambda _: None)
    old, new = entrance.begin(), entrance.begin()
    for boot in (old, new):
        with pytest.raises(LaterJoin):
            await client.ask(boot)
    assert heard == [("POST", old.id), ("PUT", new.id), ("POST", new.id)]


@awaited
async def test_what_is_no_matter_of_a_controller_is_not_believed(entrance: Entrance) -> None:
    boot = entrance.begin()
    for stage in set(Stage) - {Stage.TOKEN, Stage.APPROVED, Stage.REGISTERED, Stage.READY, Stage.FAILED}:
        entrance.door.hear(Told("prod", "m1", boot.id, stage, 1.0, "so"))
    assert entrance.story == []


@awaited
async def test_a_machine_that_was_moved_to_another_cluster_joins_neither(entrance: Entrance) -> None:
    boot = entrance.begin()
    farm = entrance.tree.house.farm.model_dump(by_alias=True, exclude_unset=True)
    farm["pools"][0]["cluster"] = "other"
    entrance.tree.house = Farmhouse(Farm.model_validate(farm))
    assert isinstance(await entrance.refusal(f"join/{boot.join}"), NotYours)
    assert entrance.client.asked == []


@awaited
async def test_a_machine_that_boots_something_else_may_not_join_any_more(entrance: Entrance) -> None:
    boot = entrance.begin()
    machine = entrance.tree.machine_at(M1)
    assert machine is not None
    folder, kept = entrance.door.begins(machine, False)
    assert (folder, kept.result(10)) == ("", None)
    assert isinstance(await entrance.refusal(f"join/{boot.join}"), Gone)


@awaited
async def test_the_controller_hears_that_a_machine_boots_something_else(entrance: Entrance) -> None:
    """What its token opens ends with its boot, and not only with the token's own time."""
    running = asyncio.create_task(entrance.door.run())
    await asyncio.sleep(0)
    boot = entrance.begin()
    machine = entrance.tree.machine_at(M1)
    assert machine is not None
    for _ in range(2):
        entrance.door.begins(machine, False)
    await asyncio.sleep(0)
    assert ([told.id for told in entrance.client.told], [over.id for over in entrance.client.over]) == (
        [boot.id], [boot.id]
    )  # fmt: skip
    assert entrance.door._begun(boot) is None
    again = entrance.begin()
    entrance.begin()
    await asyncio.sleep(0)
    assert len(entrance.client.over) == 1, "a boot of the same cluster ends the one before by itself"
    elsewhere = machine.pool.model_copy(update={"cluster": "other"})
    newest = entrance.store.newest("m1")
    assert newest is not None
    entrance.door.begins(replace(machine, pool=elsewhere), True)
    await asyncio.sleep(0)
    assert entrance.client.over[1:] == [newest]
    assert newest.id != again.id
    running.cancel()


@awaited
async def test_no_secret_is_in_the_log_whatever_is_refused(
    entrance: Entrance, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    boot = entrance.begin()
    await entrance.refusal(f"join/{boot.join}", STRANGER)
    await entrance.get(cpio(boot))
    await entrance.refusal(cpio(boot))
    entrance.client.gives = LaterJoin("no")
    await entrance.refusal(f"join/{boot.join}")
    entrance.client.gives = JoinGiven(COMMAND, "abcdef", NOW_S + 600)
    await entrance.get(f"join/{boot.join}")
    await entrance.refusal(f"join/{boot.join}")
    assert caplog.text
    shown = caplog.text + str(entrance.story) + str(entrance.door.status()) + repr(entrance.client.asked)
    for secret in (boot.folder, boot.join, boot.seed, "0123456789abcdef"):
        assert secret not in shown


@awaited
async def test_a_flood_of_guesses_is_one_line_and_no_work(
    entrance: Entrance, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pxeboot.written.replace_file", lambda *_: pytest.fail("a disk was written to"))
    for number in range(1000):
        await entrance.refusal(f"join/{number:032x}", STRANGER)
    assert entrance.door.counts == {"unknown": 1000}
    assert len(caplog.records) == 1
    assert (entrance.client.asked, entrance.story) == ([], [])


@awaited
async def test_a_command_of_ones_own_is_made_anew_each_time(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    entrance = Entrance(tmp_path, command="agent {token} {name} {ip} {labels} {taints}", token_file=secret)
    for words in ("one", "two"):
        boot = entrance.begin()
        for bad in (None, b"", b"\xff"):
            secret.unlink(missing_ok=True)
            if bad is not None:
                secret.write_bytes(bad)
            assert isinstance(await entrance.refusal(f"join/{boot.join}"), NotNow)
        secret.write_text(f"{words}\n")
        text = await entrance.get(f"join/{boot.join}")
        assert text.decode() == f"agent {words} m1 10.0.0.10 a=b ''\ngood_for: 1800\n"
        assert isinstance(await entrance.refusal(f"join/{boot.join}"), Gone)
    assert entrance.client.asked == []


def test_a_farm_of_shared_tokens_has_no_controller_to_ask(tmp_path: Path) -> None:
    farm = Farm.model_validate({"clusters": {"shared": {"lts_conf": "/lts.conf"}}})
    door = Door(farm, BootStore(tmp_path / FILE), lambda: FakeTree(farm), lambda *_: None)
    assert (door.client, door.status()) == (None, {})


def test_a_door_gets_a_controller_when_the_farm_has_a_cluster_that_needs_one(tmp_path: Path) -> None:
    before = Farm.model_validate({"clusters": {"shared": {"lts_conf": "/lts.conf"}}})
    door = Door(before, BootStore(tmp_path / FILE), lambda: FakeTree(before), lambda *_: None)
    door.swap(Farm.model_validate({"clusters": {"prod": {}}}))
    client = door.client
    assert client is not None
    assert (door.trouble, client.connected) == ("it was not asked yet", False)
    door.swap(before)
    assert door.client is client, "it goes on, for boots that wait"
    assert door.trouble is None, "and nobody needs it"


def test_the_controller_is_told_again_of_boots_that_wait_when_the_farm_changes(tmp_path: Path) -> None:
    entrance = Entrance(tmp_path)
    boot = entrance.begin()
    farm = entrance.tree.house.farm
    labels = {"all": {"labels": {"a": "c"}}}
    after = Farm.model_validate({**farm.model_dump(by_alias=True, exclude_unset=True), "tags": labels})
    entrance.tree = FakeTree(after)
    entrance.door.swap(after)
    assert [told.id for told in entrance.client.told] == [boot.id]
