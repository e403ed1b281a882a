"""What shows a daemon to those who watch it: metrics, health, machines' logs; the one place that puts them
together."""

import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence

from config.observing import MachineLogs
from pxeboot.api import health as health_api
from pxeboot.api import messages as messages_api
from pxeboot.api.control import Route
from pxeboot.health import Disk, Doctor
from pxeboot.hub import Hub
from pxeboot.metrics import aside
from pxeboot.metrics.catalogue import SERVE
from pxeboot.metrics.page import Page
from pxeboot.metrics.readings import Serve
from pxeboot.metrics.sample import Sample
from pxeboot.nbdkit.second import Second
from pxeboot.serving import Parts, Serving

Listen = Callable[[str], Coroutine[None, None, None]]


def machine_logs(hub: Hub, settings: MachineLogs) -> tuple[Listen | None, Mapping[str, int]]:
    """Return what receives machines' logs on an interface, and what counts the datagrams that it drops.

    None if no port is configured: then nothing of it is imported, which would take a start some milliseconds.
    """
    if settings.syslog_port is None and settings.netconsole_port is None:
        return None, {}
    from pxeboot.machinelogs.receiver import Receiving

    receiving = Receiving(hub, settings)
    return receiving.listen, receiving.dropped


class Observing:
    """Watches one daemon. Make it inside the running loop."""

    def __init__(
        self,
        hub: Hub,
        parts: Parts,
        serving: Serving,
        second: Second,
        shared: Callable[[], Mapping[str, object] | None],
        lines_dropped: Mapping[str, int],
    ) -> None:
        """Watch the parts. `shared` tells how it is with leases that servers share; None: they share none.

        `lines_dropped` counts what the receivers of machines' logs did not take, by why.
        """
        self._hub = hub
        self._leases = parts.leases
        disk = Disk(lambda: hub.farm)
        self._doctor = Doctor(hub, serving, parts.leases, parts.others, second, shared, disk)
        self._serve = Serve(
            hub, parts.fast, parts.others, parts.leases, serving, parts.gate, parts.nbd, second, shared, lines_dropped
        )  # fmt: skip
        parts.leases.synced = self._serve.syncs
        self._page = Page(SERVE, self._serve.samples, self._aside, self._health)

    @property
    def routes(self) -> Sequence[Route]:
        """Where all of it is."""
        return [self._page.route, *health_api.routes(self._doctor.look)]

    @property
    def more_routes(self) -> Sequence[Route]:
        """What is on the control socket alone: it names machines."""
        return messages_api.routes(self._hub.timeline, self._hub.messages, self._hub.find)

    async def run(self) -> None:
        """Measure until cancelled."""
        await self._page.watch_loop()

    async def _health(self) -> Iterable[Sample]:
        found = await self._doctor.look()
        name = "pxeboot_certificate_expiry_timestamp_seconds"
        expiries = [Sample(name, expires, (server,)) for server, expires in found.expiries.items()]
        ready = Sample("pxeboot_ready", float(found.ready))
        return [ready, Sample("pxeboot_degraded", len(found.degraded)), *expiries]

    def _aside(self) -> Callable[[], Iterable[Sample]]:
        farm, now_s, now = self._hub.farm, time.time(), self._leases.clock()
        machines = tuple(self._hub.timeline.changed_since(0))
        records, plan = tuple(self._hub.dhcp.leases), self._hub.dhcp.plan

        def find_out() -> Iterator[Sample]:
            yield from aside.machines(machines, farm, now_s)
            yield from aside.addresses(plan, records, now)

        return find_out
