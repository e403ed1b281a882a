"""The one assembly point: sockets, then servers, then the story of every boot.

If one server fails, all stop, and whoever started us starts us afresh.
"""

import asyncio
import gc
import logging
import sys
import time
from contextlib import ExitStack, suppress
from functools import partial

import dhcp.engine
import dhcp.fast
import dhcp.others
import dhcp.plan
import dhcp.store
import httpimage.gate
import httpimage.tls
import nbd.transport
from config import interfaces
from config.model import Farm
from pxeboot import descriptors, systemd
from pxeboot.about import Listening
from pxeboot.api import dhcp as dhcp_api
from pxeboot.api import downloads as downloads_api
from pxeboot.api import images as images_api
from pxeboot.api import leases as leases_api
from pxeboot.api import names as names_api
from pxeboot.api import nbd as nbd_api
from pxeboot.api import nbdkit as nbdkit_api
from pxeboot.api import others as others_api
from pxeboot.api import reload as reload_api
from pxeboot.api import tftp as tftp_api
from pxeboot.api.control import ControlSocket
from pxeboot.bootfiles import loader
from pxeboot.bootfiles.tree import stage_of
from pxeboot.exports.pin_store import FILE as PINS
from pxeboot.exports.pin_store import PinStore
from pxeboot.hub import Hub
from pxeboot.inherited import Inherited
from pxeboot.intent_store import FILE as INTENTS
from pxeboot.intent_store import IntentStore
from pxeboot.intents import DamagedRecords
from pxeboot.joining import store as joins
from pxeboot.nbdkit.second import Second
from pxeboot.observing import Observing, machine_logs
from pxeboot.reloading.prepared import prepare
from pxeboot.reloading.reloader import Reloader
from pxeboot.reloading.swap import nbd_tls, swapping
from pxeboot.reloading.watching import Source
from pxeboot.selftest.ports import explained
from pxeboot.serving import Parts, Serving, Sockets, open_all
from pxeboot.shared.link import Link
from pxeboot.starting import StartError as StartError
from pxeboot.starting import heed_signals, lock, raise_descriptor_limit
from pxeboot.web import assembly as web

log = logging.getLogger("pxeboot")

SETTLE_S = 2.5
"""So long the end of this server waits for what machines wrote to be on stable storage; systemd ends it after 5 s."""

PAGES_S = 5.0
"""So long the page's listeners may hold up that we are ready: a certificate may lie on a disk that hangs."""

YOUNG = (20_000, 10, 10)
"""After how many new objects garbage is looked for (`gc.set_threshold`); 700 unless told otherwise. A message leaves
none that refers to itself, and while leases come by the thousand the looking holds up all others."""
SWITCH_S = 0.0005
"""How soon the thread that stored a lease gets the interpreter from a busy loop; 5 ms unless told otherwise."""


async def run(farm: Farm, source: Source | None = None) -> None:
    """Serve `farm`, read from `source`, until SIGTERM or SIGINT, also while it starts. Raises `StartError`.

    SIGHUP has the file read again; it ends us when there is none, or with our terminal.
    """
    began = time.monotonic()
    descriptors.say_seldom()
    stop = asyncio.Event()
    read_again = heed_signals(stop, has_file=source is not None)
    raise_descriptor_limit()
    with ExitStack() as cleanup:
        lock(farm.server.state, cleanup)
        second = await asyncio.to_thread(Second, farm)
        inherited = Inherited.from_environment()
        sockets = bind(farm, cleanup, second.port, inherited)
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
        try:
            credentials = httpimage.tls.Credentials(farm.http.tls) if farm.http.tls else None
            nbd_credentials = httpimage.tls.Credentials(farm.nbd.tls, "nbd.tls") if farm.nbd.tls else None
        except httpimage.tls.TlsError as error:
            raise StartError(str(error)) from error
        try:
            hub = Hub(farm, leases, intents, pins, boots, second)
        except ValueError as error:
            raise StartError(str(error)) from error
        cleanup.enter_context(Listening(hub.about_lines(), hub.messages))
        await hub.selftest.begin()
        try:
            follow = (source, intents, read_again)
            servers = (sockets, inherited)
            await serve(hub, servers, leases, (credentials, nbd_credentials), second, farm, began, stop, follow)
        except OSError as error:  # an error of a server comes as a group
            raise StartError(f"the control socket {farm.server.control}: {error.strerror or error}") from error


def bind(farm: Farm, cleanup: ExitStack, nbdkit_port: int | None, inherited: Inherited) -> dict[str, Sockets]:
    """Return the sockets of the interfaces that are there, bound before anything is served. Raises `StartError`."""
    if not farm.server.interfaces:
        raise StartError("server.interfaces is empty; name the interfaces to serve, such as eth1")
    try:
        return open_all(farm.server, farm.http.tls, cleanup, nbdkit_port, inherited)
    except OSError as error:
        raise StartError(explained(error, farm, interfaces.links(farm.server.interfaces))) from error


async def serve(
    hub: Hub,
    sockets: tuple[dict[str, Sockets], Inherited],
    leases: dhcp.store.LeaseStore,
    credentials: tuple[httpimage.tls.Credentials | None, httpimage.tls.Credentials | None],
    second: Second,
    farm: Farm,
    began: float,
    stop: asyncio.Event,
    follow: tuple[Source | None, IntentStore, asyncio.Event],
) -> None:
    """Run all servers until we are told to stop. `credentials` are those of HTTP and of NBD.

    `sockets` are those that are open, and those that systemd keeps for us.
    `follow` is the farm's file, what is told of a new farm before others are, and what is set when to read it again.
    """
    others = dhcp.others.Others(hub.ours())
    fast = dhcp.fast.FastPath(hub.dhcp)
    service = nbd.transport.Service(hub.roots.catalogue, hub.report, nbd_tls(farm, credentials[1]))
    listen, lines_dropped = machine_logs(hub, farm.machine_logs)
    parts = Parts(
        engine=hub.dhcp,
        fast=fast,
        others=others,
        leases=leases,
        lookup=hub.door.lookup_by_tftp,
        web=hub.door.lookup,
        report=hub.report,
        stage_of=stage_of,
        accept=hub.accept,
        nbd=service,
        nbdkit=second.engine,
        answered=hub.answered.note,
        beside=listen,
        credentials=credentials[0],
        nbd_credentials=credentials[1],
        tftp=farm.tftp,
        gate=httpimage.gate.Gate(farm.http),
    )
    cluster = farm.dhcp.shared
    link = None if cluster is None else Link(farm.server.controller, cluster, hub.dhcp, leases)
    serving = Serving(farm.server, parts, sockets[0], hub.has_addresses, farm.http.tls, sockets[1])

    source, intents, read_again = follow
    reloader = None if source is None else Reloader(
        source, hub.reloads, lambda: hub.farm, partial(prepare, nbdkit=second.engine is not None),
        swapping(hub, parts, serving), asked=read_again, beforehand=intents.configure,
    )  # fmt: skip

    served, up = asyncio.Event(), asyncio.Event()

    def ready() -> None:
        # What is there now stays. To look through it for garbage, again and again, takes 50 ms for 2,000 machines.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*YOUNG)
        sys.setswitchinterval(SWITCH_S)
        machines = sum(len(pool.nodes) for pool in farm.pools)
        s = "" if machines == 1 else "s"
        where = ", ".join(serving.served) or "no interface yet"
        log.info("ready in %.2f s: %d machine%s, on %s", time.monotonic() - began, machines, s, where)
        served.set()

    async def say_ready() -> None:
        await served.wait()
        with suppress(TimeoutError):  # who waited for us can look at them; machines need none
            await asyncio.wait_for(pages.tried.wait(), PAGES_S)
        up.set()

    def standing() -> str:
        return systemd.status_line(serving.served, serving.waits, len(hub.timeline), hub.reloads.refused)

    shared = link.status if link is not None else lambda: None
    observing = Observing(hub, parts, serving, second, shared, lines_dropped)
    routes = [
        *observing.routes,
        *observing.more_routes,
        *others_api.routes(others),
        *leases_api.routes(hub.dhcp, leases),
        *dhcp_api.routes(hub.dhcp, leases, fast, serving, shared),
        *hub.nodes.routes,
        *names_api.routes(lambda: hub.farm, hub.timeline),
        *hub.selftest.routes(),
        *downloads_api.routes(parts.gate),
        *images_api.routes(hub.roots),
        *nbd_api.routes(hub.roots, service),
        *nbdkit_api.routes(second),
        *tftp_api.routes(serving),
        *reload_api.routes(hub.reloads, reloader, lambda: hub.farm, nbdkit=second.engine is not None),
    ]
    pages = web.site(hub, serving, leases, others, parts.gate, shared, observing.routes)
    control = ControlSocket(farm.server.control, hub.timeline, routes, hub.about, hub.status, hub.find)
    try:
        await second.open(hub.roots.catalogue, hub.report)
        async with control, asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(serving.run(ready), name="interfaces"),
                tasks.create_task(hub.roots.watch(), name="roots"),
                tasks.create_task(second.run(), name="nbdkit"),
                tasks.create_task(hub.door.run(), name="joins"),
                tasks.create_task(hub.selftest.run(), name="self-test"),
                tasks.create_task(observing.run(), name="metrics"),
                tasks.create_task(pages.run(), name="web"),
                tasks.create_task(say_ready(), name="ready"),
                tasks.create_task(systemd.keep_alive(standing, up), name="watchdog"),
            ]
            if reloader is not None:
                running.append(tasks.create_task(reloader.run(), name="reload"))
            if link is not None:
                running.append(tasks.create_task(link.run(), name="shared leases"))
            await stop.wait()
            log.info("stopping")
            systemd.notify("STOPPING=1")
            for task in running:
                task.cancel()
    finally:
        service.close()
        await asyncio.to_thread(hub.roots.disks.settle, SETTLE_S)
