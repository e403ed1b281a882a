"""How fast root images are sent: the kernel spaces each connection's packets, so that together they keep to a rate.

SO_MAX_PACING_RATE does it inside TCP, with any queueing discipline, and neither sendfile nor a thread that waits in
it has to know: 100 MB at 10 MB/s took 10.49 s over veth, at 50 MB/s 2.10 s. What is counted is data; headers add 5 %.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from math import inf, isinf

from httpimage.crawling import Motion, crawlers
from httpimage.sharing import Limit, divide, want

LOOK_S = 1.0
"""How often it is looked at how fast each goes, in seconds."""
BYTES_PER_MBIT = 125_000

_SO_MAX_PACING_RATE = 47  # asm-generic/socket.h; Python has no name for it
_UNLIMITED = 2**64 - 1
_TCP_INFO_BYTES = 192
_ACKED_AND_BUSY = struct.Struct("=120xQ40xQ")
"""Of linux/tcp.h's tcp_info: tcpi_bytes_acked, and tcpi_busy_time, for which there was something to send."""


@dataclass(slots=True)
class _Download:
    """A download on its way. Rates are in bytes per second."""

    turn: int | None
    connection: socket.socket
    machine: IPv4Address
    limits: tuple[IPv4Network, ...]
    acked_before: int
    acked: int
    busy_us: int
    wants: float = inf
    share: float = inf
    motion: Motion = field(default_factory=Motion)


@dataclass(slots=True)
class Pacer:
    """Shares a rate among the downloads that run, anew whenever one begins or ends, and every second.

    Rates are in Mbit/s: `rate` is that of all together, `subnet_rates` that of each subnet's machines. `crawl` is
    told every second which hardly move, by their turns.
    """

    rate: int | None
    subnet_rates: Mapping[IPv4Network, int]
    crawl: Callable[[Sequence[int]], None]
    clock: Callable[[], float]
    _begun: int = 0
    _downloads: dict[int, _Download] = field(default_factory=dict)
    _looked_s: float = 0.0
    _timer: asyncio.TimerHandle | None = None

    def limits(self, machine: IPv4Address) -> bool:
        """Whether what `machine` is sent has a rate."""
        return self.rate is not None or any(machine in subnet for subnet in self.subnet_rates)

    def limit(self, rate: int | None, subnet_rates: Mapping[IPv4Network, int]) -> None:
        """Keep to other rates from now on, also with the downloads that run."""
        self.rate, self.subnet_rates = rate, subnet_rates
        for download in self._downloads.values():
            download.limits, download.wants = self._limits_of(download.machine), inf
            if not self.limits(download.machine) and not isinf(download.share):
                download.share = inf
                _set(download.connection, inf)
        self._share()

    def _limits_of(self, machine: IPv4Address) -> tuple[IPv4Network, ...]:
        return tuple(subnet for subnet in self.subnet_rates if machine in subnet)

    def begin(self, turn: int | None, connection: socket.socket, machine: IPv4Address) -> int:
        """Pace a download from now on, and return its number for `end`. `turn` is its slot's, if it needs one."""
        self._begun += 1
        limits = self._limits_of(machine)
        acked, busy_us = _progress(connection) or (0, 0)
        self._downloads[self._begun] = _Download(turn, connection, machine, limits, acked, acked, busy_us)
        self._share()
        if self._timer is None:
            self._looked_s = self.clock()
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        return self._begun

    def end(self, number: int) -> int:
        """Pace a download no more. Returns how many bytes of it have arrived."""
        download = self._downloads.pop(number)
        acked, _ = _progress(download.connection) or (download.acked, 0)
        if not isinf(download.share):
            _set(download.connection, inf)  # it may be asked for small files next
        self._share()
        if not self._downloads and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return acked - download.acked_before

    def _look(self) -> None:
        """See how fast each goes, and what it leaves to the others."""
        now = self.clock()
        seconds = max(now - self._looked_s, LOOK_S / 2)
        self._looked_s = now
        for download in self._downloads.values():
            progress = _progress(download.connection)
            if progress is None:
                continue  # it is closed, and about to end
            used = (progress[0] - download.acked) / seconds
            busy_s = (progress[1] - download.busy_us) / 1e6
            download.acked, download.busy_us = progress
            if not isinf(download.share):
                download.wants = want(used, download.share)
            download.motion.seen(used, download.share, seconds, is_busy=busy_s > seconds / 2)
        motions = {one.turn: one.motion for one in self._downloads.values() if one.turn is not None}
        self.crawl(crawlers(motions))
        self._share()
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _share(self) -> None:
        """Tell the kernel what each may take; nothing, while there is no limit."""
        if self.rate is None and not self.subnet_rates:
            return
        limits = [] if self.rate is None else [Limit(float(self.rate * BYTES_PER_MBIT), self._downloads.keys())]
        for subnet, rate in self.subnet_rates.items():
            members = [number for number, download in self._downloads.items() if subnet in download.limits]
            limits.append(Limit(float(rate * BYTES_PER_MBIT), members))
        shares = divide({number: download.wants for number, download in self._downloads.items()}, limits)
        for number, share in shares.items():
            download = self._downloads[number]
            if share != download.share:
                download.share = share
                _set(download.connection, share)


def _set(connection: socket.socket, rate: float) -> None:
    """Send no faster than `rate`. One that is closed needs none."""
    value = struct.pack("=Q", _UNLIMITED if isinf(rate) else int(rate))
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, value)
    except OSError:
        return


def _progress(connection: socket.socket) -> tuple[int, int] | None:
    """Return how many bytes were acknowledged, and for how many µs there were some to send; None if it is closed."""
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return None
    acked, busy_us = _ACKED_AND_BUSY.unpack_from(info)
    return acked, busy_us
