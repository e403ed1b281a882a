"""The gate before root images: so many are sent at once, and a machine that must wait is told when to ask again."""

import logging
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv4Network

from aiohttp import web

from config.delivery import Http
from config.events import Event, Report, Stage
from httpimage.admission import Admission, Admitted, Wait
from httpimage.complaints import Complaints
from httpimage.counts import Counts
from httpimage.pacing import BYTES_PER_MBIT, Pacer
from httpimage.ranges import Span
from httpimage.reply import Refusal
from httpimage.sharing import FLOOR

log = logging.getLogger(__name__)

BULK_BYTES = 16 << 20
"""A GET of a root image that asks for so much is a download that may have to wait. Smaller ranges never are."""
PACED_BYTES = 1 << 20
"""One that asks for less is not even paced."""


class Gate:
    """Lets root images out. One for all interfaces."""

    def __init__(self, settings: Http, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep to `settings`. A low rate is given to fewer at once, so that none is sent next to nothing."""
        self.downloads, subnets = _slots(settings)
        self.clock = clock
        self.admission = Admission(self.downloads, subnets)
        self.pacer = Pacer(settings.rate_mbit_s, settings.subnet_rates_mbit_s, self.admission.crawl, clock)
        self.complain = Complaints(log, clock)
        self.counts = Counts()
        """What was answered, on all interfaces."""

    def follow(self, settings: Http) -> None:
        """Keep to other settings from now on. Downloads that run go on, at the rates that are new."""
        self.downloads, subnets = _slots(settings)
        self.admission.limit(self.downloads, subnets)
        self.pacer.limit(settings.rate_mbit_s, settings.subnet_rates_mbit_s)

    @property
    def running(self) -> int:
        """How many root images are being sent, but for those that hardly move."""
        return self.admission.running

    @property
    def crawling(self) -> int:
        """How many more hardly move."""
        return self.admission.crawling

    @property
    def waiting(self) -> int:
        """How many machines wait for their turn."""
        return self.admission.waiting


class Visit:
    """One request at the gate. Whoever makes it calls `leave`, however the request ends."""

    def __init__(
        self, gate: Gate, request: web.Request, peer: IPv4Address, stage: Stage | None, report: Report
    ) -> None:
        """`stage` is what the download means for a boot; only a root image has to wait. `report` hears who waits."""
        self._gate = gate
        self._request = request
        self._peer = peer
        self._stage = stage
        self._report = report
        self._turn: int | None = None
        self._paced: int | None = None

    def enter(self, spans: Sequence[Span], now_s: float) -> Refusal | None:
        """Take a slot for a body of `spans`, if it needs one. Returns the refusal when there is none now."""
        size_bytes = sum(span.length for span in spans)
        if self._stage is not Stage.FETCH or size_bytes < PACED_BYTES:
            return None
        if size_bytes < BULK_BYTES:
            if self._gate.pacer.limits(self._peer):
                self._pace()
            return None
        gate, resumes = self._gate, spans[0].first_pos > 0
        match gate.admission.ask(self._peer, size_bytes, gate.clock(), resumes=resumes):
            case Wait(retry_after_s, place, is_first):
                if is_first:
                    gate.complain(logging.INFO, "http %s waits for its turn: %d before it", self._peer, place)
                told = f"waits for its turn: {place} before it, asks again in {retry_after_s} s"
                self._report(Event(self._peer, Stage.WAITING, told))
                return _refusal(retry_after_s, place, now_s)
            case Admitted(turn):
                self._turn = turn
                self._pace()
        return None

    def leave(self) -> None:
        """Give back what `enter` took."""
        sent_bytes = 0
        if self._paced is not None:
            sent_bytes = self._gate.pacer.end(self._paced)
            self._paced = None
        if self._turn is not None:
            self._gate.admission.end(self._turn, sent_bytes, self._gate.clock())
            self._turn = None

    def _pace(self) -> None:
        transport = self._request.transport
        connection = None if transport is None else transport.get_extra_info("socket")
        if connection is not None:
            self._paced = self._gate.pacer.begin(self._turn, connection, self._peer)


def _slots(settings: Http) -> tuple[int, dict[IPv4Network, int]]:
    """Return how many downloads there are at once, of all and of each subnet's machines."""
    downloads = settings.downloads
    if settings.rate_mbit_s is not None:
        downloads = min(downloads, _most(settings.rate_mbit_s))
    return downloads, {subnet: _most(rate) for subnet, rate in settings.subnet_rates_mbit_s.items()}


def _most(rate_mbit_s: int) -> int:
    """Return how many may share a rate: nobody is sent less than `FLOOR`."""
    return int(rate_mbit_s * BYTES_PER_MBIT / FLOOR)


def _refusal(retry_after_s: int, place: int, now_s: float) -> Refusal:
    """Return 503 (RFC 9110 section 15.6.4), with Retry-After (section 10.2.3).

    busybox's wget, which fetches the image in an initramfs, shows no header of an error, only its status line. So
    the number is in the reason phrase as well, where a person sees it too.
    """
    return Refusal(
        503,
        f"{place} before you; ask again in {retry_after_s} s",
        now_s=now_s,
        headers=[("Retry-After", str(retry_after_s))],
        phrase=f"Service Unavailable, Retry-After: {retry_after_s}",
    )
