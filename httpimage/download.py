"""The account of one download: what the timeline and the log are told about it."""

import logging
import time
from ipaddress import IPv4Address

from config.content import Content
from config.events import Event, Report, Stage
from httpimage.ranges import Span

log = logging.getLogger(__name__)

ANNOUNCED = 16 << 20
"""A download of at least this many bytes is reported when it begins too, not only when it ends."""


class Download:
    """One GET on its way.

    A download that reaches the end of its file is a finished thing: one log line, and one event if it means a
    stage of a boot. Ranges from the middle, as a block device reads them, are neither.
    """

    def __init__(
        self, peer: IPv4Address, content: Content, spans: tuple[Span, ...], stage: Stage | None, report: Report
    ) -> None:
        self._peer = peer
        self._name = content.name
        self._stage = stage
        self._report = report
        self._began = time.monotonic()
        self._asked_bytes = sum(span.length for span in spans)
        self._sent_bytes = 0
        self._to_the_end = not spans or spans[-1].last_pos == content.size_bytes - 1
        self._from = f" from byte {spans[0].first_pos}" if spans and spans[0].first_pos else ""
        if self._to_the_end and self._asked_bytes >= ANNOUNCED:
            self._tell(f"fetching {self._name!r}{self._from}, {self._asked_bytes / 1e6:.0f} MB", 0)

    def progress(self, count: int) -> None:
        """`count` more bytes were handed to the kernel."""
        self._sent_bytes += count

    def ended(self) -> None:
        """Everything asked for was handed to the kernel."""
        seconds = time.monotonic() - self._began
        detail = f"{self._name!r}{self._from}: {self._sent_bytes} bytes in {seconds:.1f} s"
        if self._to_the_end:
            about: dict[str, object] = {"ip": str(self._peer), "file": self._name, "bytes": self._sent_bytes}
            log.info("http %s got %s", self._peer, detail, extra=about | {"seconds": round(seconds, 3)})
            self._tell(f"{detail} over HTTP", self._sent_bytes, seconds)
        else:
            log.debug("http %s got a range of %s", self._peer, detail)

    def stopped(self, reason: str) -> None:
        """The connection ends before the body does."""
        log.info(
            "http %s got %r%s: stopped after %d of %d bytes: %s",
            self._peer,
            self._name,
            self._from,
            self._sent_bytes,
            self._asked_bytes,
            reason,
            extra={"ip": str(self._peer), "file": self._name, "bytes": self._sent_bytes},
        )

    def _tell(self, detail: str, bytes_sent: int, took_s: float = 0.0) -> None:
        if self._stage is not None:
            self._report(Event(self._peer, self._stage, detail, bytes_sent, took_s))
