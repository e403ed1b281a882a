"""The one assembly point: sockets, then servers, then the story of every boot.

If one server fails, all stop, and whoever started us starts us afresh.
"""

import asyncio
import gc
import logging
import re
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import dhcp.engine
import dhcp.fast
import dhcp.others
import dhcp.plan
import dhcp.store
import httpimage.gate
import httpimage.tls
import nbd.transport
from config.events import Event, Stage
from config.model import Farm
from nbd.actions import TlsMode
from pxeboot import neighbours, systemd
from pxeboot.api import dhcp as dhcp_api
from pxeboot.api import downloads as downloads_api
from pxeboot.api import images as images_api
from pxeboot.api import leases as leases_api
from pxeboot.api import nbd as nbd_api
from pxeboot.api import nbdkit as nbdkit_api
from pxeboot.api import others as others_api
from pxeboot.api import tftp as tftp_api
from pxeboot.api.control import ControlSocket
from pxeboot.api.nodes import Nodes
from pxeboot.bootfiles import loader
from pxeboot.bootfiles.root import not_there
from pxeboot.bootfiles.tree import Asker, Tree, stage_of
from pxeboot.exports.pin_store import FILE as PINS
from pxeboot.exports.pin_store import PinStore
from pxeboot.exports.roots import Roots
from pxeboot.exports.writable import writable_without_disk
from pxeboot.image import store as images
from pxeboot.intent_store import FILE as INTENTS
from pxeboot.intent_store import IntentStore
from pxeboot.intents import DamagedRecords
from pxeboot.joining import store as joins
from pxeboot.joining.door import Door
from pxeboot.joining.once import Boot
from pxeboot.nbdkit.second import Second
from pxeboot.seldom import Seldom
from pxeboot.serving import Parts, Serving, Sockets, open_all
from pxeboot.shared.link import Link
from pxeboot.starting import StartError as StartError
from pxeboot.starting import lock, raise_descriptor_limit, stop_at_signals
from pxeboot.timeline import Timeline

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

SETTLE_S = 2.5
"""So long the end of this server waits for what machines wrote to be on stable storage; systemd ends it after 5 s."""

SWITCH_S = 0.0005
"""How soon the thread that stored a lease gets the interpreter from a busy loop; 5 ms unless told otherwise."""

NODE_FILES = (
    "mountroot", "nbd", "nbd-keeper.pl", "let-go", "prepare", "say", "get", "report", "rcfile",
    "pxeboot-report.service", "pxeboot-rcfile.service",
)  # fmt: skip


NOWHERE = IPv4Address(0)
"""Our address while we have none."""


def one_line(text: str) -> str:
    r"""Return a text that somebody else wrote as it may stand in a line of ours.

    >>> one_line("joined\n\x1b[31m")
    'joined  [31m'
    """
    return "".join(c if c.isprintable() else " " for c in text.strip()[:500])


def node_files() -> dict[str, bytes]:
    """Return the scripts of the node/ folder, from the checkout or from where they were installed.

    Raises `StartError` if they are nowhere.
    """
    for folder in (Path(__file__).parent.parent / "node", Path(sys.prefix) / "share/pxeboot/node"):
        if all((folder / name).is_file() for name in NODE_FILES):
            return {name: (folder / name).read_bytes() for name in NODE_FILES}
    raise StartError(f"the scripts for machines (node/) are not installed below {sys.prefix}")


class Daemon:
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
        self._clock = leases.clock
        self.dhcp = dhcp.engine.Server(dhcp.plan.plan(farm), leases.leases, self._clock())
        self.roots = Roots(farm, pins, self.machine_name, self.report)
        self.timeline = Timeline()
        self.door = Door(farm, boots, lambda: self.tree, self.tell_of_join)
        self.tree = Tree(
            farm, who=self.who, server_for=self.server_for, node=node_files(), report=self.report,
            intent=intents.of, start=intents.start, begins=self.roots.boots.begins, joins=self.door.begins,
            nbd_port=second.port_of,
        )  # fmt: skip
        self.nodes = Nodes(lambda: self._farm, intents, lambda name: self.timeline.get(name) is not None)
        self._seldom = Seldom()

    def who(self, address: IPv4Address) -> Asker | None:
        """Return who holds an address now."""
        holder = self.dhcp.who(address, self._clock())
        if holder is None:
            return None
        return Asker(holder.mac or "", holder.node_name or dhcp.plan.machine_name(holder.mac or ""))

    def machine_name(self, address: IPv4Address) -> str | None:
        """Return the name of the machine that holds an address now."""
        asker = self.who(address)
        return asker.name if asker is not None else None

    def about(self, name: str) -> dict[str, object]:
        """Return what more there is to say of a machine: its intent, and its root if it reads that by NBD."""
        return self.nodes.about(name) | self.roots.about(name)

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
            name = self.tree.house.name_of(mac) or dhcp.plan.machine_name(mac)
        else:
            asker = self.who(event.peer)
            if asker is None:
                return
            mac, ip, name = asker.mac, str(event.peer), asker.name
        if event.stage is Stage.MENU and self._just_told(name):
            return  # it was sent the menu that says why there is nothing to boot, or that it goes on with its disk
        machine = self.timeline.record(name, event.stage, event.detail, time.time(), event.bytes_sent)
        machine.mac = mac or machine.mac
        machine.ip = ip or machine.ip
        found = self.tree.machine_at(IPv4Address(machine.ip)) if machine.ip else None
        machine.pool = found.pool.name if found else machine.pool

    def tell_of_join(self, boot: Boot, stage: Stage, detail: str, at_s: float) -> None:
        """Take in what happened to the join of a boot, which may have been a while ago."""
        line = one_line(TOKEN.sub("***", detail))
        machine = self.timeline.joins(boot.machine, stage, line, at_s, boot.began_s)
        if machine is None:
            return
        machine.mac, machine.ip = machine.mac or boot.mac, machine.ip or str(boot.address)
        if stage in TOLD_BY_CLUSTER - {Stage.REFUSED}:
            log.info("%s: %s: %s", boot.machine, stage, line)

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
            log.log(level, "%s: %s: %s", asker.name, stage, detail)
        return True


async def run(farm: Farm) -> None:
    """Serve `farm` until SIGTERM, SIGINT or SIGHUP, also while it starts. Raises `StartError`."""
    began = time.monotonic()
    stop = stop_at_signals()
    raise_descriptor_limit()
    with ExitStack() as cleanup:
        lock(farm.server.state, cleanup)
        second = await asyncio.to_thread(Second, farm)
        sockets = bind(farm, cleanup, second.port)
        try:
            await asyncio.to_thread(loader.ensure, farm.server.state / "boot", stop.is_set)
            leases = dhcp.store.LeaseStore.open(farm.server.state / "leases")
            cleanup.callback(leases.close)
            intents = IntentStore(farm.server.state / INTENTS, farm)
            pins = PinStore(farm.server.state / PINS)
            cleanup.callback(pins.close)
            boots = joins.BootStore(farm.server.state / joins.FILE)
            cleanup.callback(boots.close)
        except loader.Halted:
            log.info("stopping before the start is over")
            return
        except OSError as error:  # a text of ours says all; the kernel's alone does not say where
            where = f"{error.filename or farm.server.state}: " if error.errno is not None else ""
            raise StartError(f"{where}{error.strerror or error}") from error
        except (loader.LoaderError, DamagedRecords) as error:
            raise StartError(str(error)) from error
        for name, image in farm.images.items():
            try:
                images.open_image(image.path)
            except images.ImageError as error:
                log.warning("machines of image %s will not boot: %s", name, error)
        for line in writable_without_disk(farm):
            log.warning("%s", line)
        try:
            credentials = httpimage.tls.Credentials(farm.http.tls) if farm.http.tls else None
            nbd_credentials = httpimage.tls.Credentials(farm.nbd.tls, "nbd.tls") if farm.nbd.tls else None
        except httpimage.tls.TlsError as error:
            raise StartError(str(error)) from error
        if (missing := not_there(farm.server.files)) is not None:
            log.warning("server.files: %s", missing)
        if (too_few := neighbours.too_few(farm)) is not None:
            log.warning("%s", too_few)
        try:
            daemon = Daemon(farm, leases, intents, pins, boots, second)
        except ValueError as error:
            raise StartError(str(error)) from error
        try:
            await serve(daemon, sockets, leases, (credentials, nbd_credentials), second, farm, began, stop)
        except OSError as error:  # an error of a server comes as a group
            raise StartError(f"the control socket {farm.server.control}: {error.strerror or error}") from error


def bind(farm: Farm, cleanup: ExitStack, nbdkit_port: int | None) -> dict[str, Sockets]:
    """Return the sockets of the interfaces that are there, bound before anything is served. Raises `StartError`."""
    if not farm.server.interfaces:
        raise StartError("server.interfaces is empty; name the interfaces to serve, such as eth1")
    try:
        return open_all(farm.server, farm.http.tls, cleanup, nbdkit_port)
    except OSError as error:
        raise StartError(str(error.strerror or error)) from error


async def serve(
    daemon: Daemon,
    sockets: dict[str, Sockets],
    leases: dhcp.store.LeaseStore,
    credentials: tuple[httpimage.tls.Credentials | None, httpimage.tls.Credentials | None],
    second: Second,
    farm: Farm,
    began: float,
    stop: asyncio.Event,
) -> None:
    """Run all servers until we are told to stop. `credentials` are those of HTTP and of NBD."""
    others = dhcp.others.Others(daemon.ours())
    fast = dhcp.fast.FastPath(daemon.dhcp)
    service = nbd.transport.Service(daemon.roots.catalogue, daemon.report, nbd_tls(farm, credentials[1]))
    parts = Parts(
        engine=daemon.dhcp,
        fast=fast,
        others=others,
        leases=leases,
        lookup=daemon.tree.lookup,
        web=daemon.door.lookup,
        report=daemon.report,
        stage_of=stage_of,
        accept=daemon.accept,
        nbd=service,
        nbdkit=second.engine,
        credentials=credentials[0],
        nbd_credentials=credentials[1],
        tftp=farm.tftp,
        gate=httpimage.gate.Gate(farm.http),
    )
    cluster = farm.dhcp.shared
    link = None if cluster is None else Link(farm.server.controller, cluster, daemon.dhcp, leases)
    serving = Serving(farm.server, parts, sockets, daemon.has_addresses, farm.http.tls)

    def ready() -> None:
        # What is there now stays. To look through it for garbage, again and again, takes 50 ms for 2,000 machines.
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(SWITCH_S)
        nodes = sum(len(pool.nodes) for pool in farm.pools)
        where = ", ".join(serving.served) or "no interface yet"
        log.info("ready in %.2f s: %s nodes, on %s", time.monotonic() - began, nodes, where)
        systemd.notify("READY=1")

    routes = [
        *others_api.routes(others),
        *leases_api.routes(daemon.dhcp, leases),
        *dhcp_api.routes(daemon.dhcp, leases, fast, serving, link.status if link is not None else lambda: None),
        *daemon.nodes.routes,
        *downloads_api.routes(parts.gate),
        *images_api.routes(daemon.roots),
        *nbd_api.routes(daemon.roots, service),
        *nbdkit_api.routes(second),
        *tftp_api.routes(serving),
    ]
    control = ControlSocket(farm.server.control, daemon.timeline, routes, daemon.about, daemon.door.status)
    try:
        await second.open(daemon.roots.catalogue, daemon.report)
        async with control, asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(serving.run(ready), name="interfaces"),
                tasks.create_task(daemon.roots.watch(), name="roots"),
                tasks.create_task(second.run(), name="nbdkit"),
                tasks.create_task(daemon.door.run(), name="joins"),
            ]
            if link is not None:
                running.append(tasks.create_task(link.run(), name="shared leases"))
            await stop.wait()
            log.info("stopping")
            systemd.notify("STOPPING=1")
            for task in running:
                task.cancel()
    finally:
        service.close()
        await asyncio.to_thread(daemon.roots.disks.settle, SETTLE_S)


def nbd_tls(farm: Farm, credentials: httpimage.tls.Credentials | None) -> nbd.transport.Tls | None:
    """Return what NBD says to STARTTLS; None: that there is no TLS."""
    if farm.nbd.tls is None or credentials is None:
        return None
    mode = TlsMode.REQUIRED if farm.nbd.tls.mode == "required" else TlsMode.OFFERED
    return nbd.transport.Tls(mode, lambda: credentials.context)
