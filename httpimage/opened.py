"""Files that were looked up a moment ago, kept open for those who ask for the next range of the same."""

import asyncio
import time

from config.content import Content, OpenFile
from httpimage.dates import format_date
from httpimage.reply import Headers, head
from httpimage.transfer import Source

FRESH_S = 1.0
"""After this long one request goes the long way again, while others are still answered from here."""
KEPT_S = 2.0
"""After this long a file is closed, unless it was looked up again."""
MOST = 64
"""Files at once."""


class Template:
    """The head of a 206 of one file, but for its date and its range."""

    __slots__ = ("_after", "_before", "_between", "_start", "size_bytes")

    def __init__(self, fields: Headers, size_bytes: int) -> None:
        """Take an answer to one range as it was given, its headers but for Date.

        Raises `ValueError` if it lacks Content-Range or Content-Length, in this order.
        """
        holes = {"Content-Range": "\0", "Content-Length": "\0"}
        text = head(206, [("Date", "\0"), *((name, holes.get(name, value)) for name, value in fields)])
        self._start, self._before, self._between, self._after = text.split(b"\0")
        self.size_bytes = size_bytes

    def head(self, date: bytes, first: int, last: int) -> bytes:
        """Return the head of the answer to one range, at `date`.

        >>> fields = [("Content-Range", "bytes 0-0/9"), ("Content-Length", "1")]
        >>> Template(fields, 9).head(b"now", 2, 3).decode().split("\\r\\n")[1:-2]
        ['Date: now', 'Content-Range: bytes 2-3/9', 'Content-Length: 2']
        """
        return b"".join(
            (
                self._start,
                date,
                self._before,
                b"bytes %d-%d/%d" % (first, last, self.size_bytes),
                self._between,
                b"%d" % (last - first + 1),
                self._after,
            )
        )


class Kept:
    """One open file, and how an answer with a range of it begins."""

    __slots__ = ("content", "fresh_until", "is_asked_for", "source", "template", "until")

    def __init__(self, content: OpenFile, template: Template, now: float) -> None:
        """Raises `OSError` if no descriptor is left."""
        self.content = content
        """What it was looked up as; its descriptor is closed."""
        self.source = Source(content.fd, content.name, content.size_bytes, content.etag, content.device)
        self.template = template
        self.fresh_until = now + FRESH_S
        self.until = now + KEPT_S
        self.is_asked_for = False
        """Whether somebody looks it up again already."""


class Opened:
    """The files, by request target. Only immutable ones: what they are depends neither on time nor on who asks."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._kept: dict[str, Kept] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._date = (0, b"")
        self._closed = False

    def learn(self, target: str, content: Content, fields: Headers, now_s: float) -> None:
        """Keep a file that was just looked up for `target`; `fields` are those of a 206 with one range of it.

        `now_s` is the time since 1970 that they were made at.
        """
        now = self._loop.time()
        before = self._kept.get(target)
        if self._closed or not isinstance(content, OpenFile) or not content.immutable:
            return
        if before is not None and now < before.fresh_until:
            return
        if content.modified_s is not None and content.modified_s > now_s:
            return  # Last-Modified is never in the future, so it changes with the time
        try:
            kept = Kept(content, Template(fields, content.size_bytes), now)
        except (OSError, ValueError):  # no descriptor left; a head that is made otherwise
            return
        self._drop(target)
        while len(self._kept) >= MOST:
            self._drop(next(iter(self._kept)))
        self._kept[target] = kept
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEPT_S, self._close_old)

    def find(self, target: str) -> Kept | None:
        """Return the file of `target`; None if it has to be looked up."""
        kept = self._kept.get(target)
        if kept is None:
            return None
        now = self._loop.time()
        if now >= kept.fresh_until and (now >= kept.until or not kept.is_asked_for):
            kept.is_asked_for = True
            return None
        return kept

    def date(self) -> bytes:
        """Return the value of Date."""
        second = int(time.time())
        if second != self._date[0]:
            self._date = second, format_date(second).encode()
        return self._date[1]

    def close(self) -> None:
        """Close all, and keep none from now on."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for target in list(self._kept):
            self._drop(target)

    def _drop(self, target: str) -> None:
        kept = self._kept.pop(target, None)
        if kept is not None:
            kept.source.drop()

    def _close_old(self) -> None:
        now = self._loop.time()
        for target in [target for target, kept in self._kept.items() if now >= kept.until]:
            self._drop(target)
        self._sweep = self._loop.call_later(KEPT_S / 2, self._close_old) if self._kept else None
