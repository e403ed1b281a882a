"""Answers whose head we write ourselves, because boot loaders read it letter by letter."""

from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from httpimage.dates import format_date

Headers = Sequence[tuple[str, str]]


def head(status: int, headers: Headers, phrase: str = "") -> bytes:
    """Return the head of an answer, with the status's own reason phrase unless `phrase` is given.

    GRUB compares `HTTP/1.1 ` and `Content-Length: ` letter by letter, U-Boot wants a blank after the status code
    and everything within 2048 bytes, and OVMF hangs on an empty value. So the version is always ours (RFC 9112
    section 2.3), a reason is always there, and a header without a value is left out.
    """
    lines = [
        f"HTTP/1.1 {status} {phrase or HTTPStatus(status).phrase}",
        *(f"{name}: {value}" for name, value in headers if value),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class Reply(web.StreamResponse):
    """An answer: its head, and a body that is either `body` or written by the caller after `prepare`.

    `body` is left out of an answer to HEAD. The caller gives Content-Length for a body of his own;
    for `body` it is added here, except for the statuses that have none.
    """

    def __init__(
        self,
        status: int,
        headers: Headers = (),
        body: bytes | None = b"",
        *,
        now_s: float,
        close: bool = False,
        phrase: str = "",
    ) -> None:
        super().__init__(status=status)
        self._phrase = phrase
        self._head_fields = [("Date", format_date(now_s)), *headers]
        if body is not None and status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self._head_fields.append(("Content-Length", str(len(body))))
        self._content = body or b""
        self._close = close
        self._writer: AbstractStreamWriter | None = None
        self._persists = False

    @property
    def keep_alive(self) -> bool:
        """Whether the connection waits for another request after this answer."""
        return self._persists

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send the head, and `body`. Raises `ConnectionError` if the peer is gone."""
        if self._writer is None:
            self._writer = request.writer
            # aiohttp's parser stops at an Upgrade, for a protocol that we will not speak.
            self._persists = request.keep_alive and not self._close and "Upgrade" not in request.headers
            if not self._persists:
                self._head_fields.append(("Connection", "close"))
            elif request.version < (1, 1):
                self._head_fields.append(("Connection", "keep-alive"))
            content = b"" if request.method == "HEAD" else self._content
            await self._writer.write(head(self.status, self._head_fields, self._phrase) + content)
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Wait until what was written fits the connection's buffer again."""
        if self._writer is not None:
            await self._writer.drain()


class Refusal(Reply):
    """An error answer with one line of text for a person."""

    def __init__(
        self,
        status: int,
        reason: str = "",
        *,
        now_s: float,
        headers: Headers = (),
        close: bool = False,
        phrase: str = "",
    ) -> None:
        text = f"{status} {HTTPStatus(status).phrase}{': ' if reason else ''}{reason}\n"
        fields = [("Content-Type", "text/plain; charset=utf-8"), *headers]
        super().__init__(status, fields, text.encode(), now_s=now_s, close=close, phrase=phrase)
