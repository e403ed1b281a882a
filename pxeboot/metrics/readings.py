"""What the servers of `pxeboot serve` have counted, as samples: quickly, since it is read on the event loop."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dhcp.engine import Server
from dhcp.fast import FastPath
from dhcp.options import MessageType
from dhcp.others import Others, Standing
from dhcp.store import LeaseStore
from httpimage.gate import Gate
from nbd.transport import Service
from pxeboot.hub import Hub
from pxeboot.metrics.boots import RESULTS
from pxeboot.metrics.histogram import SYNC_S, Histogram
from pxeboot.metrics.sample import Sample, Samples
from pxeboot.nbdkit.second import Second
from pxeboot.serving import Serving
from tftp.engine import Outcome

TFTP_REFUSED = (
    "misses",
    "refused",
    "busy",
    "malformed",
    "strays",
    "broadcasts",
    "duplicates",
    "displaced",
    "overflow",
)
"""Reasons in `tftp.transport.Server.counters` for which no transfer began."""
LEVELS = ("error", "warning", "note")
_DHCP_COUNTS = {
    "dropped": "pxeboot_dhcp_dropped_total",
    "not sent": "pxeboot_dhcp_send_errors_total",
    "no room for option": "pxeboot_dhcp_options_left_out_total",
}
"""By how a name in `dhcp.transport.Service.counts` begins."""
_NOT_A_WORD = re.compile(r"\W+")


@dataclass(slots=True)
class Syncs:
    """How the writes of leases went."""

    seconds: Histogram = field(default_factory=lambda: Histogram(SYNC_S))
    failed: int = 0

    def __call__(self, seconds: float, succeeded: bool) -> None:
        """Count one."""
        self.seconds.observe(seconds)
        self.failed += not succeeded


@dataclass(frozen=True, slots=True)
class Serve:
    """What is read."""

    hub: Hub
    fast: FastPath
    others: Others
    leases: LeaseStore
    serving: Serving
    gate: Gate
    nbd: Service
    second: Second
    shared: Callable[[], Mapping[str, object] | None]
    """How it is with the leases that servers share; None: they share none."""
    lines_dropped: Mapping[str, int]
    """Datagrams of machines' logs that were not taken, by why."""
    syncs: Syncs = field(default_factory=Syncs)

    def samples(self) -> Samples:
        """Yield everything that is known at once."""
        yield from self._farm()
        yield from self._boots()
        yield from dhcp(self.hub.dhcp, self.fast, self.serving)
        yield from self._leases()
        yield from tftp(self.serving.tftp_counts(), self.serving.transfers())
        yield from http(self.gate)
        yield from nbd(self.nbd.counters, self.hub.roots.catalogue.refused)
        if self.second.wanted:
            serves = self.second.engine is not None and self.second.engine.serves
            yield Sample("pxeboot_nbdkit_serving", float(serves))
        yield from joins(self.hub.door.status())

    def _farm(self) -> Samples:
        hub, reloads = self.hub, self.hub.reloads
        farm = hub.farm
        yield Sample("pxeboot_config_generation", reloads.generation)
        yield Sample("pxeboot_config_loaded_timestamp_seconds", reloads.at_s)
        yield Sample("pxeboot_config_refused", len(reloads.refused or ()))
        yield Sample("pxeboot_config_needs_restart", len(reloads.needs_restart))
        yield Sample("pxeboot_farm_nodes", sum(len(pool.nodes) for pool in farm.pools))
        yield Sample("pxeboot_farm_pools", len(farm.pools))
        yield Sample("pxeboot_farm_images", len(farm.images))
        yield Sample("pxeboot_farm_clusters", len(farm.clusters))
        yield Sample("pxeboot_interfaces", len(self.serving.served), ("served",))
        yield Sample("pxeboot_interfaces", len(self.serving.waits), ("waiting",))
        levels = [finding.level for finding in hub.findings]
        for level in LEVELS:
            yield Sample("pxeboot_findings", sum(found == level for found in levels), (level,))

    def _boots(self) -> Samples:
        counts = self.hub.boot_counts
        yield Sample("pxeboot_boots_begun_total", counts.begun)
        for result in RESULTS:
            yield Sample("pxeboot_boots_total", counts.results[result], (result,))
        for goal, histogram in counts.durations.items():
            yield Sample("pxeboot_boot_duration_seconds", histogram, (goal,))
        for stage, histogram in counts.stages.items():
            yield Sample("pxeboot_boot_stage_seconds", histogram, (stage.value,))
        for source, count in tuple(self.hub.messages.counts.items()):
            yield Sample("pxeboot_machine_lines_total", count, (source,))
        yield from labelled("pxeboot_machine_lines_dropped_total", self.lines_dropped)
        yield Sample("pxeboot_machine_lines_kept_bytes", self.hub.messages.size_bytes)

    def _leases(self) -> Samples:
        yield Sample("pxeboot_dhcp_lease_sync_seconds", self.syncs.seconds)
        yield Sample("pxeboot_dhcp_lease_sync_errors_total", self.syncs.failed)
        yield Sample("pxeboot_dhcp_leases_not_stored", float(self.leases.degraded is not None))
        status = self.shared()
        if status is not None:
            yield Sample("pxeboot_dhcp_leases_not_shared", float(bool(status["trouble"])))
            yield Sample("pxeboot_dhcp_lease_conflicts_total", _number(status["conflicts"]))
        standings = [other.standing for other in self.others]
        for standing in Standing:
            count = sum(found is standing for found in standings)
            yield Sample("pxeboot_other_dhcp_servers", count, (standing.value,))


def dhcp(server: Server, fast: FastPath, serving: Serving) -> Samples:
    """Yield what came, what was answered, and what was not."""
    quick_requests, quick_discovers = fast.acknowledged, fast.hits - fast.acknowledged
    received, sent = server.received.copy(), serving.sent()
    received.update({_code(MessageType.DHCPDISCOVER): quick_discovers, _code(MessageType.DHCPREQUEST): quick_requests})
    sent.update({_code(MessageType.DHCPOFFER): quick_discovers, _code(MessageType.DHCPACK): quick_requests})
    for name, counts in (("pxeboot_dhcp_received_total", received), ("pxeboot_dhcp_sent_total", sent)):
        by_type: dict[str, float] = {}
        for kind, count in counts.items():
            by_type[message_type(kind)] = by_type.get(message_type(kind), 0) + count
        yield from labelled(name, by_type)
    reasons = {reason.name.lower(): float(count) for reason, count in server.counts.items()}
    yield from labelled("pxeboot_dhcp_not_answered_total", reasons)
    drops = serving.counts()
    yield Sample("pxeboot_dhcp_unprobed_offers_total", drops.pop("offered without a probe", 0))
    for key, count in drops.items():
        what, _, which = key.partition(": ")
        yield Sample(_DHCP_COUNTS[what], count, (word(which),))


def tftp(counts: Mapping[str, int], transfers: tuple[int, int]) -> Samples:
    """Yield what TFTP counted on all interfaces, and how many transfers run, of at most how many."""
    yield Sample("pxeboot_tftp_requests_total", counts.get("requests", 0))
    yield from labelled("pxeboot_tftp_refused_total", {why: counts.get(why, 0) for why in TFTP_REFUSED})
    ended = {outcome.value: counts.get(outcome.value, 0) for outcome in Outcome}
    yield from labelled("pxeboot_tftp_transfers_total", ended)
    yield Sample("pxeboot_tftp_sent_bytes_total", counts.get("bytes", 0))
    yield Sample("pxeboot_tftp_resent_blocks_total", counts.get("resent", 0))
    yield Sample("pxeboot_tftp_narrowed_total", counts.get("narrowed", 0))
    yield Sample("pxeboot_tftp_transfers_running", transfers[0])
    yield Sample("pxeboot_tftp_transfers_limit", transfers[1])


def http(gate: Gate) -> Samples:
    """Yield what HTTP answered, and the queue before root images."""
    yield from labelled("pxeboot_http_requests_total", {str(code): n for code, n in gate.counts.requests.items()})
    yield Sample("pxeboot_http_sent_bytes_total", gate.counts.sent_bytes)
    yield Sample("pxeboot_http_downloads_running", gate.running)
    yield Sample("pxeboot_http_downloads_crawling", gate.crawling)
    yield Sample("pxeboot_http_downloads_waiting", gate.waiting)
    yield Sample("pxeboot_http_downloads_limit", gate.downloads)


def nbd(counters: Mapping[str, int], refused: int) -> Samples:
    """Yield what NBD counted."""
    yield Sample("pxeboot_nbd_connections", counters.get("open", 0))
    yield Sample("pxeboot_nbd_refused_total", refused)
    for name in ("accepted", "turned_away", "reads", "cold_reads", "read_bytes", "writes", "written_bytes", "errors"):
        yield Sample(f"pxeboot_nbd_{name}_total", counters.get(name, 0))


def joins(status: Mapping[str, object]) -> Samples:
    """Yield what the door told of joins (`pxeboot.joining.door.Door.status`)."""
    counts, controller = status.get("joins"), status.get("controller")
    if isinstance(counts, Mapping):
        yield Sample("pxeboot_joins_open", _number(counts["open"]))
        results = {str(why): _number(count) for why, count in counts.items() if why != "open"}
        yield from labelled("pxeboot_joins_total", results)
    if isinstance(controller, Mapping):
        yield Sample("pxeboot_controller_connected", float(bool(controller["connected"])))


def labelled(name: str, values: Mapping[str, float]) -> Samples:
    """Yield a sample of each value, whose key is the one label."""
    for label, value in sorted(values.items()):
        yield Sample(name, value, (label,))


def message_type(held: bytes) -> str:
    """Return the name of a DHCP message's type from what option 53 holds, in lower case.

    >>> message_type(bytes([1])), message_type(b""), message_type(bytes([200]))
    ('discover', 'bootp', 'unknown')
    """
    if not held:
        return "bootp"
    try:
        return MessageType(held[0]).name.removeprefix("DHCP").lower()
    except ValueError:
        return "unknown"


def word(text: str) -> str:
    """Return a text of ours as a label.

    >>> word("too long")
    'too_long'
    """
    return _NOT_A_WORD.sub("_", text)


def _code(kind: MessageType) -> bytes:
    return bytes((kind,))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
