"""The commands of one connection, once it has an export (Transmission).

Every command that comes out as an action has been checked: the export can do it, its flags are known, its range is not
empty and inside the export. What is wrong is answered here, and whatever payload it brought is read past.
"""

from nbd import wire
from nbd.actions import (
    MAX_WRITE_PIECE_BYTES,
    Action,
    BlockStatus,
    Cache,
    Close,
    ExportInfo,
    Flush,
    Read,
    Send,
    Trim,
    Write,
    WriteZeroes,
)
from nbd.inbox import Inbox
from nbd.replies import EXTENDED, Replies
from nbd.wire import Cmd, CmdFlag, Errno, ExtendedRequest, Request, TransmissionFlag

# Plain numbers: on the way of each READ, the arithmetic of enumerations would cost more than all else.
_READ, _DF, _MOST = int(Cmd.READ), int(CmdFlag.DF), wire.MAX_PAYLOAD_BYTES

_READ_ONLY = (
    TransmissionFlag.HAS_FLAGS
    | TransmissionFlag.READ_ONLY
    | TransmissionFlag.SEND_FLUSH
    | TransmissionFlag.CAN_MULTI_CONN
    | TransmissionFlag.SEND_CACHE
)
_WRITABLE = (
    TransmissionFlag.HAS_FLAGS
    | TransmissionFlag.SEND_FLUSH
    | TransmissionFlag.SEND_FUA
    | TransmissionFlag.SEND_TRIM
    | TransmissionFlag.SEND_WRITE_ZEROES
    | TransmissionFlag.SEND_FAST_ZERO
    | TransmissionFlag.CAN_MULTI_CONN
    | TransmissionFlag.SEND_CACHE
)


def transmission_flags(info: ExportInfo, replies: Replies) -> TransmissionFlag:
    """Return what the client is told that it may do with an export (Transmission flags).

    CAN_MULTI_CONN holds: nothing is ever written to a read-only export, and all connections to a writable one share
    one disk.
    """
    flags = _WRITABLE if info.writable else _READ_ONLY
    return flags | TransmissionFlag.SEND_DF if replies.chunked else flags


def command_flags(info: ExportInfo, replies: Replies) -> dict[int, int]:
    """Return which flags each command may have (Command flags). FUA may be on all, where we offer it."""
    fua = CmdFlag.FUA if info.writable else CmdFlag(0)
    extended = replies is EXTENDED
    allowed = {
        Cmd.READ: fua | CmdFlag.DF if replies.chunked else fua,
        Cmd.WRITE: fua | CmdFlag.PAYLOAD_LEN if extended else fua,
        Cmd.FLUSH: fua,
        Cmd.TRIM: fua,
        Cmd.CACHE: fua,
        Cmd.WRITE_ZEROES: fua | CmdFlag.NO_HOLE | CmdFlag.FAST_ZERO,
        Cmd.BLOCK_STATUS: fua | CmdFlag.REQ_ONE,
    }
    return {command: int(flags) for command, flags in allowed.items()}  # ~ of an IntFlag keeps known bits only


class Transmission:
    """The commands to one export."""

    def __init__(self, inbox: Inbox, replies: Replies, info: ExportInfo, contexts: tuple[int, ...]) -> None:
        self._inbox = inbox
        self._replies = replies
        self._info = info
        self._contexts = contexts
        self._request: type[Request] = ExtendedRequest if replies is EXTENDED else Request
        self._allowed = command_flags(info, replies)
        self._writing: Request | None = None
        self._written = 0

    @property
    def at_boundary(self) -> bool:
        """Whether all requests that have begun to arrive have arrived whole."""
        return self._writing is None and self._inbox.empty

    def step(self, actions: list[Action]) -> bool:
        """Take what is whole out of the inbox, adding to `actions`; false when there is no more to take now.

        Raises `wire.MalformedPacket` where only closing is left.
        """
        return self._requests(actions) if self._writing is None else self._payload(self._writing, actions)

    def _requests(self, actions: list[Action]) -> bool:
        """Take whole requests; true after one that has a payload."""
        inbox, kind = self._inbox.data, self._request
        unpack, size, expected = kind.LAYOUT.unpack_from, kind.SIZE, kind.MAGIC
        no_read_flag, end = ~self._allowed[Cmd.READ], self._info.size_bytes
        start = 0
        try:
            while len(inbox) - start >= size:
                magic, flags, command, cookie, offset, length = unpack(inbox, start)
                if magic != expected:
                    raise wire.MalformedPacket(f"a request with the magic {magic:#x}")
                start += size
                # What happens most, and is right; a READ that is not gets its answer from _command.
                if command == _READ and 0 < length <= _MOST and offset + length <= end and not flags & no_read_flag:
                    actions.append(Read(cookie, offset, length, flags & _DF != 0))
                    continue
                request = kind(command, cookie, offset, length, flags)
                if command == Cmd.DISC:
                    actions.append(Close(None))
                    return False
                if command == Cmd.WRITE or (kind is ExtendedRequest and flags & CmdFlag.PAYLOAD_LEN):
                    del inbox[:start]
                    start = 0
                    self._begin_payload(request)
                    return True
                actions.append(self._command(request))
        finally:
            del inbox[:start]
        return False

    def _begin_payload(self, request: Request) -> None:
        """Have the bytes behind a request written, or else read past.

        With extended headers a WRITE without PAYLOAD_LEN breaks a rule, and its data come all the same:
        tests/data/nbd/qemu-10.txt.
        """
        if request.length > _MOST:
            raise wire.MalformedPacket(f"command {request.type} with {request.length} bytes of data")
        refusal = self._refusal(request)
        if refusal is not None:
            self._inbox.drop(request.length, [self._error(request, *refusal)])
        elif not request.length:
            self._inbox.drop(0, [self._ok(request)])
        else:
            self._writing = request
            self._written = 0

    def _payload(self, request: Request, actions: list[Action]) -> bool:
        """Take what has come of a WRITE's data, in pieces that are the same however it came."""
        left = request.length - self._written
        piece = min(left, MAX_WRITE_PIECE_BYTES)
        if len(self._inbox.data) < piece:
            return False
        data, offset, fua = self._inbox.take(piece), request.offset + self._written, bool(request.flags & CmdFlag.FUA)
        actions.append(Write(request.cookie, offset, data, piece == left, fua, request.offset))
        self._written += piece
        if piece == left:
            self._writing = None
        return True

    def _command(self, request: Request) -> Action:
        """Return what is to be done for a command without payload that is not a READ, or how it is refused."""
        refusal = self._refusal(request)
        if refusal is not None:
            return self._error(request, *refusal)
        cookie, offset, length, flags = request.cookie, request.offset, request.length, request.flags
        match request.type:
            case Cmd.FLUSH if self._info.writable:
                return Flush(cookie, offset)
            case Cmd.FLUSH:  # nothing was ever written
                return self._ok(request)
            case _ if not length:
                return self._ok(request)
            case Cmd.CACHE:  # which is a hint: a little of it is enough
                return Cache(cookie, offset, min(length, _MOST))
            case Cmd.TRIM:
                return Trim(cookie, offset, length, bool(flags & CmdFlag.FUA))
            case Cmd.WRITE_ZEROES:
                no_hole, fast, fua = (bool(flags & one) for one in (CmdFlag.NO_HOLE, CmdFlag.FAST_ZERO, CmdFlag.FUA))
                return WriteZeroes(cookie, offset, length, no_hole, fast, fua)
            case _:
                return BlockStatus(cookie, offset, length, bool(flags & CmdFlag.REQ_ONE), self._contexts)

    def _refusal(self, request: Request) -> tuple[Errno, str] | None:
        """Return why a command cannot be carried out, and None if it can (Error values)."""
        allowed = self._allowed.get(request.type)
        outside = request.offset + request.length > self._info.size_bytes
        match request.type:
            case _ if allowed is None:
                return Errno.EINVAL, "no such command"
            case Cmd.WRITE | Cmd.TRIM | Cmd.WRITE_ZEROES if not self._info.writable:
                return Errno.EPERM, "this export is read-only"
            case _ if request.flags & ~allowed:
                return Errno.EINVAL, "a flag that this command does not have"
            case Cmd.WRITE | Cmd.WRITE_ZEROES if outside:
                return Errno.ENOSPC, "past the end"
            case Cmd.READ | Cmd.CACHE | Cmd.TRIM | Cmd.BLOCK_STATUS if outside:
                return Errno.EINVAL, "past the end"
            case Cmd.READ if request.length > _MOST:
                return Errno.EINVAL, f"at most {_MOST} bytes"
            case Cmd.WRITE_ZEROES if request.flags & CmdFlag.FAST_ZERO and not self._info.fast_zero:
                return Errno.ENOTSUP, "not faster than a write"
            case Cmd.BLOCK_STATUS if not self._contexts:
                return Errno.EINVAL, "no metadata context was chosen for this export"
            case Cmd.BLOCK_STATUS if not request.length:
                return Errno.EINVAL, "a range of nothing"
            case _:
                return None

    def _ok(self, request: Request) -> Send:
        return Send(self._replies.ok(request.cookie, request.offset))

    def _error(self, request: Request, error: Errno, message: str) -> Send:
        return Send(self._replies.error(request.cookie, error, message, request.offset))
