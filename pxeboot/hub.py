"""What the servers share: the farm, the leases, the tree of names, and the story of every boot."""

import logging
import re
import time
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import dhcp.engine
import dhcp.others
import dhcp.plan
import dhcp.store
from config.events import Event, Stage
from config.model import Farm
from dhcp.complaints import Complaints
from pxeboot.about import About
from pxeboot.answered import Answered
from pxeboot.api import control
from pxeboot.api.nodes import Nodes
from pxeboot.bootfiles.machine import Farmhouse
from pxeboot.bootfiles.scripts import node_files
from pxeboot.bootfiles.tree import Asker, Tree
from pxeboot.exports.pin_store import PinStore
from pxeboot.exports.roots import Roots
from pxeboot.intent_store import IntentStore
from pxeboot.joining import store as joins
from pxeboot.joining.door import Door
from pxeboot.joining.once import Boot
from pxeboot.meant import Book
from pxeboot.messages import Messages
from pxeboot.metrics.boots import BootCounts
from pxeboot.nbdkit.second import Second
from pxeboot.played import Played
from pxeboot.reloading.state import Reloads
from pxeboot.seldom import Seldom
from pxeboot.selftest.findings import Finding
from pxeboot.selftest.watch import Watch
from pxeboot.stuck import Goals, State
from pxeboot.timeline import Machine, Timeline

log = logging.getLogger("pxeboot")

TOKEN = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b")
"""A bootstrap token. What machines say about themselves is kept and shown without it."""

HAS_ROOT = frozenset((Stage.ROOT, Stage.PREPARED, Stage.SYSTEM))
"""What a machine reports once its root is there: one in RAM is whole then."""

TOLD_BY_CLUSTER = frozenset((Stage.TOKEN, Stage.FETCHED, Stage.APPROVED, Stage.REGISTERED, Stage.READY, Stage.REFUSED))
"""What we and the controller see of a join."""

STAGES_OF_MACHINES = frozenset(Stage) - {Stage.DISCOVER, Stage.ADDRESS} - TOLD_BY_CLUSTER
"""What a machine may report of itself."""

MENU_TAKES_S = 10.0
"""Within this time of a failure on our side, the machine has fetched the menu that tells of it."""

MOST_STORES = 64
"""So many paths of images are remembered that the farm has no more."""

MOST_PLAYED = 20
"""Cards of which it is logged in a minute that `pxeboot probe` plays them: whoever makes MACs up fills no disk."""

MISLED = "it was given the menu of `pxeboot probe`, whose node.cpio is only to be looked at, so it has to boot again"
"""Why a machine fails that asked for its menu while its card counted as played."""

NOWHERE = IPv4Address(0)
"""Our address while we have none."""


def one_line(text: str) -> str:
    r"""Return a text that somebody else wrote as it may stand in a line of ours.

    >>> one_line("joined\n\x1b[31m")
    'joined  [31m'
    """
    return "".join(c if c.isprintable() else " " for c in text.strip()[:500])


def _stored(error: BaseException | None) -> None:
    if error is not None:
        log.warning("an address that a machine has until it renews is not kept over a restart: %s", error)


class Hub:
    """What the servers share: the farm, the leases, the tree of names, the timeline."""

    def __init__(
        self,
        farm: Farm,
        leases: dhcp.store.LeaseStore,
        intents: IntentStore,
        pins: PinStore,
        boots: joins.BootStore,
        second: Second,
    ) -> None:
        """Assemble the parts that do no input or output. Raises `ValueError` for options that cannot be encoded."""
        self._farm = farm
        self._interfaces: Sequence[IPv4Interface] = ()
        self._leases, self._second = leases, second
        self._clock = leases.clock
        self._stores: tuple[Path, ...] = ()
        """The paths of images that the farm had before: machines that booted one of them may still need it."""
        self.reloads = Reloads(None, time.time())
        self.dhcp = dhcp.engine.Server(dhcp.plan.plan(farm), leases.leases, self._clock())
        self.dhcp.steered = lambda: intents.steered
        self.roots = Roots(farm, pins, self.machine_name, self.report, intents.booting)
        self.boot_counts = BootCounts()
        self.timeline = Timeline(self.boot_counts.entered)
        self.messages = Messages()
        self.answered = Answered()
        self._goals = Goals(farm)
        self.selftest = Watch(lambda: self._farm)
        self.door = Door(farm, boots, lambda: self.tree, self.tell_of_join, misled=self._misled)
        self.tree = Tree(
            farm, who=self.who, server_for=self.server_for, node=node_files(), report=self.report,
            intent=intents.of, start=intents.start, begins=self.roots.boots.begins, joins=self.door.begins,
            nbd_port=second.port_of,
        )  # fmt: skip
        self.book = Book(lambda mac: self.tree.house.name_of(mac), self._names_at)
        self.nodes = Nodes(lambda: self._farm, intents, lambda name: self.timeline.get(name) is not None, self.book)
        self._seldom = Seldom()
        self._played = Played()
        self._asked = Complaints(log, time.monotonic, MOST_PLAYED)
        self._warned = Complaints(log, time.monotonic, MOST_PLAYED)

    @property
    def farm(self) -> Farm:
        """The farm that is served now."""
        return self._farm

    def swap(self, farm: Farm, plan: dhcp.plan.Plan, house: Farmhouse) -> None:
        """Serve another farm from now on; `plan` and `house` were made of it.

        Leases, pins, boots and disks stay. A machine whose static address is another's now keeps what it was told, as
        a lease, until that is over; when it renews, it is refused, and asks for its new address. `farm` is the new one
        once all have it: where one fails, it can be tried again.
        """
        before = {image.path: None for image in self._farm.images.values()}
        self._stores = tuple([*before, *(path for path in self._stores if path not in before)][:MOST_STORES])
        for action in self.dhcp.reload(plan):
            if isinstance(action, dhcp.engine.Store):
                self._leases.put(action.lease, _stored)
        self._leases.flush()
        self.tree.swap(farm, house, self._stores)
        self.roots.swap(farm, self._stores)
        self._second.swap(farm)
        self.door.swap(farm)
        self._farm = farm

    @property
    def findings(self) -> Sequence[Finding]:
        """What the self-test found last, the worst first."""
        return self.selftest.found

    def who(self, address: IPv4Address) -> Asker | None:
        """Return who holds an address now."""
        holder = self.dhcp.who(address, self._clock())
        if holder is None:
            return None
        mac = holder.mac or ""
        played = self._played.plays(mac, time.monotonic())
        return Asker(mac, holder.node_name or dhcp.plan.machine_name(mac), played)

    def about_lines(self) -> About:
        """Return what knows which machine a line of our log is about."""

        def of_card(mac: str) -> str | None:
            return self.tree.house.name_of(mac) or dhcp.plan.machine_name(mac)

        return About(self.machine_name, of_card, lambda name: self.timeline.get(name) is not None)

    def machine_name(self, address: IPv4Address) -> str | None:
        """Return the name of the machine that holds an address now.

        One that is not listed and whose MAC makes a listed machine's name is not that one: it has no part of its disk.
        A machine that booted by that name there, before the farm's file said otherwise, keeps its own.
        """
        holder = self.dhcp.who(address, self._clock())
        if holder is None:
            return None
        if holder.node_name is not None:
            return holder.node_name
        name = dhcp.plan.machine_name(holder.mac or "")
        if not self.tree.house.is_listed(name):
            return name
        pin = self.roots.pins.get(name)
        return name if pin is not None and pin.address == address else f"{name} (not listed)"

    def find(self, word: str) -> Machine | dict[str, object]:
        """Return the machine that a person means, as the control socket does, or what it says of one that is none."""
        name = self.book.find(word, lambda name: self.timeline.get(name) is not None)
        machine = self.timeline.get(name) if name is not None else None
        return machine or control.unheard(word, self.book.find(word, self.nodes.is_listed))

    def _names_at(self, address: IPv4Address) -> Iterator[str]:
        """Yield the names of who has an address, by the farm's file and the leases, then of who had it last."""
        if (asker := self.who(address)) is not None:
            yield asker.name
        if (node := self.tree.house.node_at(address)) is not None:
            yield node.name
        text = str(address)
        yield from (machine.name for machine in self.timeline.changed_since(0) if machine.ip == text)

    def about(self, name: str) -> dict[str, object]:
        """Return what more there is to say of a machine: how it does, its intent, its root if it reads that by NBD."""
        return self.nodes.about(name) | self.roots.about(name) | self._how(name)

    def _how(self, name: str) -> dict[str, object]:
        machine = self.timeline.get(name)
        if machine is None:
            return {}
        if self._goals.farm is not self._farm:
            self._goals = Goals(self._farm)
        verdict = self._goals.judge(machine, time.time())
        why = {"trouble": verdict.words, "look": verdict.look} if verdict.state is State.STUCK else {}
        return {"state": verdict.state.value, **why}

    def status(self) -> dict[str, object]:
        """Return what the status says of all: the joins, and how the farm's file stands."""
        return self.door.status() | {"configuration": self.reloads.as_json()}

    def server_for(self, client: IPv4Address) -> IPv4Address:
        """Return our address as a machine reaches it: its subnet's, the farm's, or that of the interface it is on."""
        for subnet in self._farm.dhcp.subnets:
            if client in subnet.subnet and subnet.next_server is not None:
                return subnet.next_server
        if self._farm.server.address is not None:
            return self._farm.server.address
        near = [interface.ip for interface in self._interfaces if client in interface.network]
        return (near or [interface.ip for interface in self._interfaces] or [NOWHERE])[0]

    def has_addresses(self, addresses: Sequence[IPv4Interface]) -> None:
        """Take note of our addresses on the interfaces that are served. The last ones stand while there are none."""
        self._interfaces = addresses or self._interfaces

    def ours(self) -> dhcp.others.Ours:
        """Return what tells our own DHCP answers and machines from those of others."""

        def address(of: IPv4Address) -> bool:
            return of == self._farm.server.address or any(of == interface.ip for interface in self._interfaces)

        def machine(mac: str) -> str | None:
            host = self.dhcp.plan.by_mac.get(mac)
            return host.name if host else None

        def proxied(of: IPv4Address) -> bool:
            return any(subnet.proxy and of in subnet.subnet for subnet in self._farm.dhcp.subnets)

        return dhcp.others.Ours(address, machine, proxied)

    def report(self, event: Event) -> None:
        """Take in what one of the servers saw."""
        if isinstance(event.peer, str):
            mac, ip = event.peer, ""
            if event.played:
                self._plays(event)
                return
            if event.stage is Stage.ADDRESS and event.boots:
                self._played.boots(mac, time.monotonic())
            else:
                self._played.end(mac)
            if not event.boots:
                return
            name = self.tree.house.name_of(mac) or dhcp.plan.machine_name(mac)
        else:
            asker = self.who(event.peer)
            if asker is None or asker.played:
                return
            mac, ip, name = asker.mac, str(event.peer), asker.name
        if event.stage is Stage.MENU and self._just_told(name):
            return  # it was sent the menu that says why there is nothing to boot, or that it goes on with its disk
        machine = self.timeline.record(
            name, event.stage, event.detail, time.time(), event.bytes_sent, event.took_s, event.resent
        )
        machine.mac = mac or machine.mac
        machine.ip = ip or machine.ip
        found = self.tree.machine_at(IPv4Address(machine.ip)) if machine.ip else None
        machine.pool = found.pool.name if found else machine.pool

    def _plays(self, event: Event) -> None:
        """Take in what happened to `pxeboot probe`: the log tells it, and no machine's story."""
        mac, now_s = str(event.peer), time.monotonic()
        if not event.boots:
            self._played.leave(mac, now_s)
        elif event.stage is Stage.DISCOVER:
            text = "`pxeboot probe` plays %s: %s"
            self._asked("asks", text, mac, event.detail, whom=mac, level=logging.INFO, extra={"mac": mac})
        elif event.stage is Stage.ADDRESS:
            text, say, level = "`pxeboot probe` plays %s: it has %s", self._asked, logging.INFO
            name = self.tree.house.name_of(mac) or dhcp.plan.machine_name(mac)
            if not self._played.begin(mac, now_s):
                text = "`pxeboot probe` asks for the address that %s got just now, so it counts as that machine: %s"
                say, level = self._warned, logging.WARNING
            elif self._how(name).get("state") in (State.BOOTING, State.WAITING):
                text += "; that machine boots just now, and its story stands still until it says more"
                say, level = self._warned, logging.WARNING
            say("begins", text, mac, event.detail, whom=mac, level=level, extra={"mac": mac})

    def _misled(self, peer: IPv4Address) -> None:
        """Take in that a machine fetches what is only for `pxeboot probe`, which only looks whether it is there."""
        asker = self.who(peer)
        if asker is None:
            return
        self._played.end(asker.mac)
        self.report(Event(peer, Stage.FAILED, MISLED))
        if self._seldom(asker.name, "misled"):
            log.warning("%s: %s", asker.name, MISLED, extra={"machine": asker.name, "mac": asker.mac})

    def tell_of_join(self, boot: Boot, stage: Stage, detail: str, at_s: float) -> None:
        """Take in what happened to the join of a boot, which may have been a while ago."""
        line = one_line(TOKEN.sub("***", detail))
        machine = self.timeline.joins(boot.machine, stage, line, at_s, boot.began_s)
        if machine is None:
            return
        machine.mac, machine.ip = machine.mac or boot.mac, machine.ip or str(boot.address)
        if stage in TOLD_BY_CLUSTER - {Stage.REFUSED}:
            about = {"machine": boot.machine, "stage": stage.value}
            log.info("%s: %s: %s", boot.machine, stage, line, extra=about)

    def _just_told(self, name: str) -> bool:
        machine = self.timeline.get(name)
        step = machine.boots[-1].newest if machine and machine.boots else None
        told = step is not None and step.stage in (Stage.FAILED, Stage.DISK)
        return step is not None and told and time.time() - step.last_s < MENU_TAKES_S

    def accept(self, peer: IPv4Address, stage: str, text: str) -> bool:
        """Take in what a machine says of itself; False if there is no such machine or stage."""
        asker = self.who(peer)
        if asker is None or stage not in STAGES_OF_MACHINES:
            return False
        self._played.end(asker.mac)  # a probe reports no stage
        text = TOKEN.sub("***", text)
        detail = "multi-user reached" if stage == Stage.SYSTEM else one_line(text)
        before = self.timeline.get(asker.name)
        newest = before.boots[-1].stage if before and before.boots else None
        self.report(Event(peer, Stage(stage), detail))
        if stage == Stage.SYSTEM:
            self.timeline.keep_report(asker.name, text)
        if stage in HAS_ROOT and (machine := self.tree.machine_at(peer)) is not None:
            self.roots.boots.in_ram(machine)
        if newest != stage and self._seldom(asker.name, stage):
            level = logging.WARNING if stage == Stage.FAILED else logging.INFO
            about = {"machine": asker.name, "mac": asker.mac, "ip": str(peer), "stage": stage}
            log.log(level, "%s: %s: %s", asker.name, stage, detail, extra=about)
        return True
