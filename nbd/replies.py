"""The answers to commands, in the three forms that a client may have chosen (Reply message).

- `SimpleReplies`: an error or success and then, after a READ, its data. What every client knows.
- `StructuredReplies`: chunks, so that a READ can skip holes and fail in the middle (NBD_OPT_STRUCTURED_REPLY).
- `ExtendedReplies`: the same with lengths of 64 bits and the request's offset (NBD_OPT_EXTENDED_HEADERS).

A session's `replies` are one of them. `data` is what stands before a READ's data; the others are whole answers.
Where an answer has several chunks, all but the last have `done=False`.
"""

import errno
from abc import ABC, abstractmethod
from collections.abc import Sequence
from struct import Struct, pack
from typing import Protocol

from nbd import wire
from nbd.actions import BlockStatus
from nbd.exports import ALIGNMENT, Extent
from nbd.wire import Chunk, ChunkFlag, Errno, State

MAX_EXTENTS = 1 << 14
"""The most extents in one answer; the client asks again for what is left. The specification's own bound is 2^20."""
MAX_LENGTH = (1 << 32) - ALIGNMENT
"""The longest extent that 32 bits can tell of, still aligned."""


class Replies(Protocol):
    """One of the three forms.

    `offset` is where the chunk's content is; `start` the request's own offset, where that is another one. Both tell
    the client nothing in simple replies.
    """

    @property
    def chunked(self) -> bool:
        """Whether a READ may be answered in several chunks, and may fail after the first."""

    @property
    def head_size(self) -> int:
        """How many bytes `data` returns."""

    def data(self, cookie: int, offset: int, length: int, *, done: bool = True, start: int | None = None) -> bytes:
        """Return what stands before `length` (> 0) bytes of a READ's content from `offset`.

        Without chunks it stands before all of the content, and only once.
        """

    def hole(self, cookie: int, offset: int, length: int, *, done: bool = True, start: int | None = None) -> bytes:
        """Return the chunk that says: `length` (> 0, below 4 GiB) zeros from `offset`. Only for `chunked` replies."""

    def ok(self, cookie: int, offset: int = 0) -> bytes:
        """Return the answer to a command that was carried out, or the end of a READ that came in chunks."""

    def error(self, cookie: int, error: int, message: str = "", offset: int = 0) -> bytes:
        """Return the answer to a command that failed, or the end of a READ that fails in the middle of its chunks."""

    def status(
        self, cookie: int, offset: int, context_id: int, extents: Sequence[Extent], *, done: bool = True
    ) -> bytes:
        """Return one chunk of the answer to a BLOCK_STATUS. Only for `chunked` replies."""

    def block_status(self, asked: BlockStatus, extents: Sequence[Extent]) -> bytes:
        """Return the whole answer to a BLOCK_STATUS, from what `Export.extents` said of its range."""


def error_number(error: OSError) -> Errno:
    """Return what the client is told of an error of the disk (Error values).

    All that has no number of its own is EIO; so is ENOMEM, which a client could take for its own.
    """
    match error.errno:
        case errno.EPERM | errno.EACCES | errno.EROFS:
            return Errno.EPERM
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return Errno.ENOSPC
        case errno.EINVAL:
            return Errno.EINVAL
        case _:
            return Errno.EIO


def most_extents(asked: BlockStatus) -> int:
    """Return how many extents to ask of an export for this command."""
    return 1 if asked.req_one else MAX_EXTENTS


def settle(extents: Sequence[Extent], length: int, req_one: bool) -> list[Extent]:
    """Return the extents as the specification wants them (NBD_REPLY_TYPE_BLOCK_STATUS).

    Neighbours differ, none is empty, there are at most `MAX_EXTENTS`, all but the last end inside the `length` bytes
    that were asked for; with `req_one` there is one, and it does so too.
    """
    settled: list[Extent] = []
    end = 0
    for extent in extents:
        if end >= length:
            break
        if not extent.length:
            continue
        end += extent.length
        last = settled[-1] if settled else None
        if last is not None and (last.hole, last.zero) == (extent.hole, extent.zero):
            settled[-1] = Extent(last.length + extent.length, last.hole, last.zero)
        elif len(settled) == (1 if req_one else MAX_EXTENTS):
            break
        else:
            settled.append(extent)
    if req_one and settled and settled[0].length > length:
        settled[0] = Extent(length, settled[0].hole, settled[0].zero)
    return settled


_SIMPLE_HEAD = Struct(">IIQ")


class SimpleReplies:
    """Without negotiation (Simple reply message). READ cannot be told that it failed once its data have begun."""

    __slots__ = ()
    chunked = False
    head_size = _SIMPLE_HEAD.size

    def data(self, cookie: int, offset: int, length: int, *, done: bool = True, start: int | None = None) -> bytes:
        """See `Replies`."""
        return _SIMPLE_HEAD.pack(wire.SIMPLE_REPLY_MAGIC, Errno.OK, cookie)

    def hole(self, cookie: int, offset: int, length: int, *, done: bool = True, start: int | None = None) -> bytes:
        """Return the answer with all its zeros: there is no shorter way to tell them."""
        return self.ok(cookie) + bytes(length)

    def ok(self, cookie: int, offset: int = 0) -> bytes:
        """See `Replies`."""
        return _SIMPLE_HEAD.pack(wire.SIMPLE_REPLY_MAGIC, Errno.OK, cookie)

    def error(self, cookie: int, error: int, message: str = "", offset: int = 0) -> bytes:
        """See `Replies`. There is no room for the message."""
        return _SIMPLE_HEAD.pack(wire.SIMPLE_REPLY_MAGIC, error, cookie)

    def status(
        self, cookie: int, offset: int, context_id: int, extents: Sequence[Extent], *, done: bool = True
    ) -> bytes:
        """Refuse: without chunks there are no metadata contexts."""
        return self.error(cookie, Errno.EINVAL)

    def block_status(self, asked: BlockStatus, extents: Sequence[Extent]) -> bytes:
        """Refuse: without chunks there are no metadata contexts."""
        return self.error(asked.cookie, Errno.EINVAL)


class _Chunks(ABC):
    """What the two forms that have chunks have in common: the types of chunks, and what is in them."""

    __slots__ = ()
    chunked = True

    @abstractmethod
    def _chunk(self, done: bool, kind: Chunk, cookie: int, start: int, payload: bytes) -> bytes:
        """Return a chunk of the reply to the request that began at `start`."""

    @abstractmethod
    def status(
        self, cookie: int, offset: int, context_id: int, extents: Sequence[Extent], *, done: bool = True
    ) -> bytes:
        """See `Replies`."""

    def hole(self, cookie: int, offset: int, length: int, *, done: bool = True, start: int | None = None) -> bytes:
        """See `Replies`."""
        request = offset if start is None else start
        return self._chunk(done, Chunk.OFFSET_HOLE, cookie, request, pack(">QI", offset, length))

    def ok(self, cookie: int, offset: int = 0) -> bytes:
        """See `Replies`."""
        return self._chunk(True, Chunk.NONE, cookie, offset, b"")

    def error(self, cookie: int, error: int, message: str = "", offset: int = 0) -> bytes:
        """See `Replies`."""
        text = message[: wire.MAX_STRING_BYTES // 4].encode()  # whole characters
        return self._chunk(True, Chunk.ERROR, cookie, offset, pack(">IH", error, len(text)) + text)

    def block_status(self, asked: BlockStatus, extents: Sequence[Extent]) -> bytes:
        """See `Replies`. All contexts that there are tell the same."""
        settled = settle(extents, asked.length, asked.req_one)
        if not settled:
            return self.error(asked.cookie, Errno.EIO, "nothing is known of this range", asked.offset)
        last = asked.contexts[-1]
        chunks = (self.status(asked.cookie, asked.offset, one, settled, done=one == last) for one in asked.contexts)
        return b"".join(chunks)


_STRUCTURED_HEAD = Struct(">IHHQI")
_STRUCTURED_DATA = Struct(">IHHQIQ")


class StructuredReplies(_Chunks):
    """After STRUCTURED_REPLY (Structured reply chunk message)."""

    __slots__ = ()
    head_size = _STRUCTURED_DATA.size

    def data(self, cookie: int, offset: int, length: int, *, done: bool = True, start: int | None = None) -> bytes:
        """See `Replies`."""
        return _STRUCTURED_DATA.pack(wire.STRUCTURED_REPLY_MAGIC, done, Chunk.OFFSET_DATA, cookie, length + 8, offset)

    def _chunk(self, done: bool, kind: Chunk, cookie: int, start: int, payload: bytes) -> bytes:
        flags = ChunkFlag.DONE if done else 0
        return _STRUCTURED_HEAD.pack(wire.STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(payload)) + payload

    def status(
        self, cookie: int, offset: int, context_id: int, extents: Sequence[Extent], *, done: bool = True
    ) -> bytes:
        """See `Replies`."""
        descriptors = b""
        for extent in extents:
            descriptors += pack(">II", min(extent.length, MAX_LENGTH), _state(extent))
            if extent.length > MAX_LENGTH:
                break  # what comes after it would be told at a wrong place
        return self._chunk(done, Chunk.BLOCK_STATUS, cookie, offset, pack(">I", context_id) + descriptors)


_EXTENDED_HEAD = Struct(">IHHQQQ")
_EXTENDED_DATA = Struct(">IHHQQQQ")


class ExtendedReplies(_Chunks):
    """After EXTENDED_HEADERS: each chunk says which request it belongs to, and how long it is in 64 bits."""

    __slots__ = ()
    head_size = _EXTENDED_DATA.size

    def data(self, cookie: int, offset: int, length: int, *, done: bool = True, start: int | None = None) -> bytes:
        """See `Replies`."""
        request = offset if start is None else start
        return _EXTENDED_DATA.pack(
            wire.EXTENDED_REPLY_MAGIC, done, Chunk.OFFSET_DATA, cookie, request, length + 8, offset
        )

    def _chunk(self, done: bool, kind: Chunk, cookie: int, start: int, payload: bytes) -> bytes:
        flags = ChunkFlag.DONE if done else 0
        return _EXTENDED_HEAD.pack(wire.EXTENDED_REPLY_MAGIC, flags, kind, cookie, start, len(payload)) + payload

    def status(
        self, cookie: int, offset: int, context_id: int, extents: Sequence[Extent], *, done: bool = True
    ) -> bytes:
        """See `Replies`."""
        descriptors = b"".join(pack(">QQ", extent.length, _state(extent)) for extent in extents)
        payload = pack(">II", context_id, len(extents)) + descriptors
        return self._chunk(done, Chunk.BLOCK_STATUS_EXT, cookie, offset, payload)


def _state(extent: Extent) -> int:
    return State.HOLE * extent.hole | State.ZERO * extent.zero


SIMPLE, STRUCTURED, EXTENDED = SimpleReplies(), StructuredReplies(), ExtendedReplies()
