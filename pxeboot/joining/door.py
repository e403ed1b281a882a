"""Who is given what, once: the node.cpio of a machine that boots, and then its join command.

In front of everything else that HTTP and TFTP serve. TFTP cannot say "not now", so join commands come by HTTP only.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address
from typing import Protocol

from config.content import Content, Gone, Made, NotNow, NotYours, Once, Withheld
from config.events import Stage
from config.model import Cluster, Farm
from pxeboot.bootfiles.machine import Machine
from pxeboot.joining import text
from pxeboot.joining.client import Client, LaterJoin, NoJoin
from pxeboot.joining.once import LATE_S, MOST, Boot, Kind, Refused, State, Why
from pxeboot.joining.store import BootStore
from pxeboot.joining.talk import BootBegun, JoinGiven, Told
from pxeboot.played import FOLDER
from pxeboot.seldom import Seldom

log = logging.getLogger("pxeboot")

WAIT_S = 7.0
"""So long a machine waits for its join command in one request, which it gives up after 10 s."""
KEPT_S = 2.0
"""So long it waits then for a disk to note that it has it."""
AGAIN_S = 5
ANSWER_KEPT_S = 60.0
"""So long an answer of the controller is kept for a machine that did not wait for it."""

SEEN_BY_CONTROLLER = frozenset((Stage.TOKEN, Stage.APPROVED, Stage.REGISTERED, Stage.READY, Stage.FAILED))
_WHAT: dict[Kind, str] = {"folder": "node.cpio", "join": "join command"}
_TOLD = {
    Why.SPENT: "it was fetched before",
    Why.LATE: f"it is more than {LATE_S / 60:.0f} minutes since its menu",
    Why.ENDED: "its boot is over",
}


class Tree(Protocol):
    """What machines may fetch otherwise (`pxeboot.bootfiles.tree.Tree`)."""

    async def lookup(self, name: str, peer: IPv4Address) -> Content | None:
        """Return what a name is for whoever asks."""

    def machine_at(self, peer: IPv4Address) -> Machine | None:
        """Return the machine whose address this is."""

    def machine_of(self, mac: str, address: IPv4Address, name: str) -> Machine | None:
        """Return the machine that boots from this card, at this address; `name` is its name if it is not listed."""

    def is_refused(self, machine: Machine) -> bool:
        """Return whether a machine is to be given nothing."""

    async def archive(self, image_id: str, machine: Machine, card: str, join: str) -> Made | None:
        """Return the node.cpio of a machine, which tells it where its join command is."""


Misled = Callable[[IPv4Address], None]
"""Told of who fetches what a probe's menu names."""

Story = Callable[[Boot, Stage, str, float], None]
"""Takes in what happened to a boot: the stage, a line about it, and when, in seconds since 1970."""


class Door:
    """Gives each boot what is its own, once."""

    def __init__(
        self,
        farm: Farm,
        store: BootStore,
        tree: Callable[[], Tree],
        story: Story,
        clock: Callable[[], float] = time.time,
        misled: Misled = lambda _: None,
    ) -> None:
        """Serve the machines of `farm`'s clusters. `clock` gives seconds since 1970."""
        self._farm = farm
        self._store = store
        self._tree = tree
        self._story = story
        self._clock = clock
        self._misled = misled
        self._seldom = Seldom()
        self._asked: dict[str, asyncio.Task[JoinGiven]] = {}  # goes on when whoever waits for it gives up
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard: dict[str, tuple[str, set[tuple[Stage, float]]]] = {}  # of each machine's newest boot
        self.counts: Counter[str] = Counter()
        """How many join commands were `given`, and requests refused, by `once.Why`."""
        self.client: Client | None = None
        """None if no cluster needs a controller."""
        self._needed = asyncio.Event()
        self.swap(farm)

    def swap(self, farm: Farm) -> None:
        """Serve the machines of another farm's clusters from now on. The controller is told what it says of boots."""
        self._farm = farm
        if self.client is None and any(cluster.minted == "boot" for cluster in farm.clusters.values()):
            self.client = Client(farm.server.controller, self._open, self._begun, self.hear, self._clock)
            self._needed.set()
        elif self.client is not None:
            for boot in self._open():
                self.client.begins(boot)

    # --- a boot begins ----------------------------------------------------------------------------------------------

    def begins(self, machine: Machine, netboots: bool) -> "tuple[str, Future[None]]":
        """Take note that a machine is given a menu, which ends its boot before.

        Returns the name of the folder of its node.cpio, "" if that is where everybody's is, and what is done when the
        menu may leave. Called in a thread; blocks nobody.
        """
        cluster, before = self._cluster(machine), self._store.newest(machine.name)
        if cluster is None or not netboots or machine.pool.cluster is None:
            kept = self._store.end(machine.name, "it does not boot from the network any more")
            self._tell(before, ends=True)
            return "", kept
        boot, kept = self._store.begin(machine.name, machine.pool.cluster, machine.mac, machine.ip)
        if before is not None and before.cluster != boot.cluster:
            self._tell(before, ends=True)
        if cluster.minted == "boot":
            self._tell(boot)
        return boot.folder, kept

    def _tell(self, boot: Boot | None, *, ends: bool = False) -> None:
        """Tell the controller of a boot that begins, or `ends` before it was over. Called in a thread."""
        if self._loop is not None and self.client is not None and boot is not None and boot.state is not State.OVER:
            with suppress(RuntimeError):  # we have stopped meanwhile
                self._loop.call_soon_threadsafe(self.client.ended if ends else self.client.begins, boot)

    def _cluster(self, machine: Machine) -> Cluster | None:
        """Return the cluster that a machine joins with a command of its own."""
        cluster = self._farm.clusters.get(machine.pool.cluster or "")
        return cluster if cluster is not None and cluster.per_boot else None

    # --- a machine fetches ------------------------------------------------------------------------------------------

    async def lookup(self, name: str, peer: IPv4Address) -> Content | Once | None:
        """Return what `name` is for `peer`. Raises what `WebLookup` does."""
        match name.split("/"):
            case ["images", _, _, folder, "node.cpio"] if folder == FOLDER:
                return Once("node.cpio", lambda _: self._looked_at(peer))
            case ["images", image_id, card, folder, "node.cpio"]:
                boot = self._may("folder", folder, peer)
                return Once("node.cpio", lambda there: self._archive(folder, image_id, card, boot, peer, there))
            case ["join", join]:
                self._may("join", join, peer)
                return Once("join", lambda there: self._join(join, peer, there))
            case _:
                return await self._tree().lookup(name, peer)

    async def lookup_by_tftp(self, name: str, peer: IPv4Address) -> Content | None:
        """Return what `name` is for a client of TFTP, which cannot be told why it gets nothing. Raises `OSError`.

        With Secure Boot, GRUB fetches all of its files so. What is given once is given when it is asked for: where the
        transfer fails, the machine begins again. A join command is fetched by HTTP.
        """
        if name.startswith("join/"):
            return None
        try:
            found = await self.lookup(name, peer)
            return await found.take(lambda: True) if isinstance(found, Once) else found
        except Withheld:
            return None

    def _may(self, kind: Kind, name: str, peer: IPv4Address) -> Boot:
        """Return the boot whose name this is. Raises `NotYours` or `Gone`, which it counts and tells."""
        machine = self._tree().machine_at(peer)
        if machine is not None and self._tree().is_refused(machine):
            raise NotYours("its boot intent is refuse")
        found = self._store.may(kind, name, None if machine is None else machine.name)
        if isinstance(found, Refused):
            raise self._refusal(found, _WHAT[kind], peer)
        return found

    def _refusal(self, refused: Refused, what: str, peer: IPv4Address) -> Gone | NotYours:
        """Count and tell that somebody is refused; return what he is told."""
        self.counts[refused.why.value] += 1
        boot = refused.boot
        if boot is None:
            if self._seldom(refused.why):
                log.warning("%s asked for a %s by a name that is none; he is refused, and who else does so",
                            peer, what)  # fmt: skip
            return NotYours("there is no such name")
        if refused.why is Why.ADDRESS:
            self._tell_refused(boot, f"{peer} asked for its {what}, and is not it", peer)
            return NotYours("it is another machine's")
        why = _TOLD[refused.why]
        if refused.why is Why.ENDED and boot.ended:
            why = f"{why}: {boot.ended}"
        self._tell_refused(boot, f"it asked for its {what}, and was refused: {why}", peer)
        return Gone(text.said(why))

    def _tell_refused(self, boot: Boot, line: str, peer: IPv4Address) -> None:
        self._story(boot, Stage.REFUSED, line, self._clock())
        if self._seldom(boot.machine, peer, line):
            log.warning("%s: %s", boot.machine, line)

    async def _looked_at(self, peer: IPv4Address) -> Made:
        """Give nothing: `pxeboot probe` looks whether it is there, and whoever fetches it boots by a probe's menu."""
        self._misled(peer)
        raise NotYours("it is for `pxeboot probe` to look at, which boots nothing")

    async def _archive(
        self, folder: str, image_id: str, card: str, boot: Boot, peer: IPv4Address, there: Callable[[], bool]
    ) -> Made:
        machine = self._tree().machine_at(peer)
        if machine is None or card != f"01-{boot.mac.replace(':', '-')}":
            raise NotYours("it is another card's")
        made = await self._tree().archive(image_id, machine, boot.mac, f"join/{boot.join}")
        if made is None:
            raise NotYours("it cannot be made")
        _still(there)
        await self._spend("folder", folder, machine, peer)
        return made

    async def _join(self, name: str, peer: IPv4Address, there: Callable[[], bool]) -> Made:
        boot = self._may("join", name, peer)
        machine = self._tree().machine_at(peer)
        cluster = None if machine is None else self._cluster(machine)
        if machine is None or cluster is None or machine.pool.cluster != boot.cluster:
            raise NotYours("it joins another cluster")
        given = await (self._own(cluster, machine, boot) if cluster.command is not None else self._asks(boot))
        _still(there)
        now_s = self._clock()
        await self._spend("join", name, machine, peer, given)
        self.counts["given"] += 1
        self._story(boot, Stage.FETCHED, f"its join command, from {peer}", self._clock())
        good_for_s = given.expires_s - now_s if given.expires_s else LATE_S
        data = text.join_text(given.command, given.hosts, good_for_s).encode()
        return Made("join", data, boot.id, secret=True)

    async def _spend(
        self, kind: Kind, name: str, machine: Machine, peer: IPv4Address, given: JoinGiven | None = None
    ) -> None:
        """Spend a name, and wait until that is on disk. Raises `Withheld`.

        Whether it may is looked at once more: meanwhile its address may have become another's, its intent refuse.
        """
        self._may(kind, name, peer)
        what = _WHAT[kind]
        token_id, expires_s = ("", 0.0) if given is None else (given.token_id, given.expires_s)
        spent = self._store.fetch(kind, name, machine.name, token_id, expires_s)
        if isinstance(spent, Refused):
            raise self._refusal(spent, what, peer)
        boot, kept = spent
        try:
            async with asyncio.timeout(KEPT_S):
                await asyncio.wrap_future(kept)
        except OSError as error:
            # It is spent all the same: a disk that fails now may have kept it.
            why = error.strerror or str(error) or f"the disk did not answer within {KEPT_S:.0f} s"
            line = f"its {what} cannot be given: that it has it cannot be kept: {why}"
            self._story(boot, Stage.FAILED, line, self._clock())
            if self._seldom(boot.machine, "not kept"):
                log.error("%s: %s", boot.machine, line)
            raise Gone("the server cannot keep that it was fetched") from None

    # --- where a join command comes from ----------------------------------------------------------------------------

    async def _own(self, cluster: Cluster, machine: Machine, boot: Boot) -> JoinGiven:
        """Return a join command of one's own, filled in."""
        token = ""
        if cluster.token_file is not None:
            try:
                token = (await asyncio.to_thread(cluster.token_file.read_text, "utf-8")).strip()
                if not token:
                    raise ValueError("is empty")
            except (OSError, ValueError) as error:
                why = (error.strerror or "cannot be read") if isinstance(error, OSError) else "is no text, or empty"
                raise self._later(boot, LaterJoin(f"the token_file of cluster {boot.cluster}: {why}")) from None
        command = text.fill_in(
            cluster.command or "", token=token, name=machine.name, ip=str(machine.ip),
            labels=machine.labels, taints=machine.taints,
        )  # fmt: skip
        return JoinGiven(command, "", 0.0)

    async def _asks(self, boot: Boot) -> JoinGiven:
        """Return what the controller gives. Raises `NotNow`, or `Gone` when it never will."""
        if self.client is None:
            raise NotNow("there is no controller", AGAIN_S)
        asked = self._asked.get(boot.id)
        if asked is None:
            asked = self._asked[boot.id] = asyncio.create_task(self.client.ask(boot))
            asked.add_done_callback(partial(self._answered, boot.id))
        await asyncio.wait([asked], timeout=WAIT_S)
        if not asked.done():
            raise self._later(boot, LaterJoin("the controller takes its time", 1.0))
        self._asked.pop(boot.id, None)
        try:
            given = asked.result()
            if given.expires_s <= self._clock():
                raise LaterJoin("the token that was made for it has expired")
            return given
        except LaterJoin as error:
            raise self._later(boot, error) from None
        except NoJoin as error:
            why = text.said(str(error))
            self.counts["denied"] += 1
            self._store.over(boot.id, why)
            self._story(boot, Stage.FAILED, f"it may not join: {why}; it starts again by itself", self._clock())
            if self._seldom(boot.machine, "may not join"):
                log.warning("%s may not join: %s", boot.machine, why)
            raise Gone(why) from None

    def _answered(self, boot_id: str, asked: "asyncio.Task[JoinGiven]") -> None:
        """Keep an answer for a while, for a machine that asks again."""
        if asked.cancelled():
            return
        asked.exception()  # whoever comes for it hears of it
        asyncio.get_running_loop().call_later(ANSWER_KEPT_S, self._asked.pop, boot_id, None)

    def _later(self, boot: Boot, error: LaterJoin) -> NotNow:
        """Tell why a machine has to wait; return what it is told."""
        why = text.said(str(error))
        self.counts["later"] += 1
        self._story(boot, Stage.JOINING, f"waits for its join command: {why}", self._clock())
        if self._seldom("later", why):  # not of each of a farm's machines: the timeline has those
            log.warning("%s waits for its join command, and who else asks: %s", boot.machine, why)
        return NotNow(why, max(1, min(60, round(error.retry_after_s))))

    # --- the controller ---------------------------------------------------------------------------------------------

    def _open(self) -> list[Boot]:
        """Return the boots that the controller has to know of."""
        ours = {name for name, cluster in self._farm.clusters.items() if cluster.minted == "boot"}
        return [boot for boot in self._store.open() if boot.cluster in ours]

    def _begun(self, boot: Boot) -> BootBegun | None:
        """Return what the controller is told of a boot, with what the farm's file says of its machine now.

        None if it is not the newest of its machine, or is over.
        """
        newest = self._store.newest(boot.machine)
        if newest is None or newest.id != boot.id or newest.state is State.OVER:
            return None
        machine = self._tree().machine_of(boot.mac, boot.address, boot.machine)
        labels, taints = ({}, ()) if machine is None else (machine.labels, machine.taints)
        return BootBegun(boot.id, boot.address, boot.began_s, labels, taints, newest.token_id, newest.expires_s)

    def hear(self, told: Told) -> None:
        """Take in what happened in a cluster."""
        boot = self._store.newest(told.node)
        if (
            boot is None
            or (boot.id, boot.cluster) != (told.boot, told.cluster)
            or told.stage not in SEEN_BY_CONTROLLER
        ):
            log.debug("%s: what the controller told is not of its newest boot", told.node)
            return
        heard_of, heard = self._heard.pop(boot.machine, ("", set()))
        if heard_of != boot.id:
            heard = set()
        self._heard[boot.machine] = boot.id, heard
        if len(self._heard) > MOST:
            del self._heard[next(iter(self._heard))]
        if (told.stage, told.at_s) in heard:  # told again after a reconnect
            return
        heard.add((told.stage, told.at_s))
        self._story(boot, told.stage, told.detail, told.at_s)
        if told.stage is Stage.READY:
            self._store.over(boot.id, "its Node is Ready")

    async def run(self) -> None:
        """Talk to the controller until cancelled, from when there is one to talk to."""
        self._loop = asyncio.get_running_loop()
        await self._needed.wait()
        if self.client is None:
            return
        try:
            await self.client.run()
        finally:
            for asked in self._asked.values():
                asked.cancel()
            await self.client.close()

    @property
    def trouble(self) -> str | None:
        """Why the controller does not answer; None if it does, or if no cluster of the farm needs it (any more)."""
        needed = any(cluster.minted == "boot" for cluster in self._farm.clusters.values())
        return self.client.trouble if needed and self.client is not None and not self.client.connected else None

    def status(self) -> dict[str, object]:
        """Return what `pxeboot status` shows of joins."""
        if not any(cluster.per_boot for cluster in self._farm.clusters.values()):
            return {}
        client = self.client
        controller = None if client is None else {
            "connected": client.connected, "since_s": client.since_s, "trouble": client.trouble,
            "socket": str(self._farm.server.controller),
        }  # fmt: skip
        to_fetch = sum(boot.state is not State.GIVEN for boot in self._store.open())
        return {"controller": controller, "joins": {"open": to_fetch, **self.counts}}


def _still(there: Callable[[], bool]) -> None:
    """Raise `ConnectionResetError` when nobody would get what is about to be spent."""
    if not there():
        raise ConnectionResetError("the client closed the connection")
