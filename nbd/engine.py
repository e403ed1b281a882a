"""The handshake, then the transmission, of one connection: bytes and answers in, actions out.

Fixed newstyle without TLS, simple replies, read-only exports. What we do not offer (STARTTLS, structured replies,
metadata contexts, extended headers) is answered ERR_UNSUP, and the client goes on without.

    session = Session()
    actions = session.start(now)                # then, for what arrives: session.receive(data, now)
    ...                                         # OpenExport is answered by export_opened or export_refused,
                                                # ListExports by exports_listed; until then bytes are only kept
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from nbd import wire
from nbd.wire import ClientFlag, Cmd, Errno, HandshakeFlag, Info, Opt, Rep, TransmissionFlag

HANDSHAKE_S = 10.0
"""How long a client may take to choose an export, in seconds (QEMU's answer to CVE-2024-7409)."""
MAX_OPTIONS = 2000
"""How many options a client may send, as in nbdkit and QEMU."""
MAX_OPTION_BYTES = 16384
"""The longest option data that we keep: a name of 4096 bytes and thousands of information requests."""

EXPORT_FLAGS = (
    TransmissionFlag.HAS_FLAGS
    | TransmissionFlag.READ_ONLY
    | TransmissionFlag.SEND_FLUSH
    | TransmissionFlag.CAN_MULTI_CONN  # nothing is ever written, so all connections see the same
    | TransmissionFlag.SEND_CACHE
)

MINIMUM_BLOCK_BYTES, PREFERRED_BLOCK_BYTES = 1, 4096


@dataclass(frozen=True, slots=True)
class Send:
    """Send these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class OpenExport:
    """Find and open an export, then call `export_opened` or `export_refused`.

    `keep` is false when the client only wants to know about it (INFO): it can be closed at once.
    """

    name: str
    keep: bool


@dataclass(frozen=True, slots=True)
class ListExports:
    """Find out which exports this client may see, then call `exports_listed`."""


@dataclass(frozen=True, slots=True)
class ReadFile:
    """Send a simple reply with `length` bytes of the export from `offset`, or with EIO. The range is valid.

    Several may be carried out at once and answered in any order; `cookie` tells the client which is which.
    """

    cookie: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Prefetch:
    """Bring this range into the page cache, then send a simple reply without data."""

    cookie: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Close:
    """Carry out what came before, then close. `reason` is what the client did wrong; None if it said goodbye."""

    reason: str | None


Action = Send | OpenExport | ListExports | ReadFile | Prefetch | Close


class Phase(Enum):
    """How far a connection is."""

    CLIENT_FLAGS = auto()
    OPTIONS = auto()
    WAITING = auto()
    """For the answer to OpenExport or ListExports; bytes that arrive meanwhile are kept."""
    TRANSMISSION = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class _Asked:
    """The option that waits for its answer."""

    option: int
    name: str = ""
    requests: tuple[int, ...] = ()


class Session:
    """One connection, as seen by the server.

    It buffers at most one option or request beyond what one `receive` brought: long data that we do not need (an
    oversized option, the payload of a WRITE) are counted and dropped as they come.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None
        """When `expire` is due; None once an export was chosen."""
        self.phase = Phase.CLIENT_FLAGS
        self._buffer = bytearray()
        self._skip = 0
        self._after_skip: Action | None = None
        self._fixed_newstyle = False
        self._no_zeroes = False
        self._options = 0
        self._asked = _Asked(0)
        self._size = 0

    def start(self, now: float) -> list[Action]:
        """Greet the client, which then has ten seconds to choose an export."""
        self.deadline = now + HANDSHAKE_S
        return [Send(wire.Greeting(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES).encode())]

    def receive(self, data: bytes | memoryview, now: float) -> list[Action]:
        """Take what arrived, in pieces of any size."""
        if self.phase is Phase.CLOSED:
            return []
        self._buffer += data
        return self._advance()

    def expire(self, now: float) -> list[Action]:
        """Act on silence: close, if the deadline has passed."""
        if self.deadline is None or now < self.deadline:
            return []
        return [self._close(f"no export chosen within {HANDSHAKE_S:.0f} s")]

    def export_opened(self, size: int) -> list[Action]:
        """Go on after `OpenExport`: there is such an export, of `size` bytes."""
        if self.phase is not Phase.WAITING:
            return []
        asked = self._asked
        if asked.option == Opt.EXPORT_NAME:
            answer = wire.export_name_reply(size, EXPORT_FLAGS, zeroes=not self._no_zeroes)
        else:
            infos = [wire.info_export(size, EXPORT_FLAGS)]
            if Info.NAME in asked.requests:
                infos.append(wire.info_name(asked.name))
            if Info.BLOCK_SIZE in asked.requests:
                infos.append(wire.info_block_size(MINIMUM_BLOCK_BYTES, PREFERRED_BLOCK_BYTES, wire.MAX_PAYLOAD_BYTES))
            replies = [wire.OptionReply(asked.option, Rep.INFO, info) for info in infos]
            replies.append(wire.OptionReply(asked.option, Rep.ACK))
            answer = b"".join(reply.encode() for reply in replies)
        if asked.option == Opt.INFO:
            self.phase = Phase.OPTIONS
        else:
            self.phase = Phase.TRANSMISSION
            self.deadline = None
            self._size = size
        return [Send(answer), *self._advance()]

    def export_refused(self) -> list[Action]:
        """Go on after `OpenExport`: there is no such export for this client."""
        if self.phase is not Phase.WAITING:
            return []
        if self._asked.option == Opt.EXPORT_NAME:  # which knows no error but the end (NBD_OPT_EXPORT_NAME)
            return [self._close(None)]
        self.phase = Phase.OPTIONS
        return [_reply(self._asked.option, Rep.ERR_UNKNOWN, "no such export"), *self._advance()]

    def exports_listed(self, names: Sequence[str]) -> list[Action]:
        """Go on after `ListExports`."""
        if self.phase is not Phase.WAITING:
            return []
        self.phase = Phase.OPTIONS
        servers: list[Action] = [
            Send(wire.OptionReply(Opt.LIST, Rep.SERVER, wire.server_data(name)).encode()) for name in names
        ]
        return [*servers, _reply(Opt.LIST, Rep.ACK), *self._advance()]

    def _advance(self) -> list[Action]:
        """Take whole messages off the buffer until it, or the phase, ends."""
        actions: list[Action] = []
        try:
            while self._skipped(actions) and self._step(actions):
                pass
        except wire.MalformedPacket as error:
            actions.append(self._close(str(error)))
        return actions

    def _skipped(self, actions: list[Action]) -> bool:
        """Drop what is to be skipped; false while more of it has to come."""
        if self._skip:
            dropped = min(self._skip, len(self._buffer))
            del self._buffer[:dropped]
            self._skip -= dropped
            if self._skip:
                return False
        if self._after_skip is not None:
            actions.append(self._after_skip)
            self._after_skip = None
        return True

    def _step(self, actions: list[Action]) -> bool:
        """Take one message off the buffer, in transmission all of them; false when there is no more to do now."""
        match self.phase:
            case Phase.CLIENT_FLAGS:
                return self._client_flags(actions)
            case Phase.OPTIONS:
                return self._option(actions)
            case Phase.TRANSMISSION:
                return self._requests(actions)
            case Phase.WAITING | Phase.CLOSED:
                return False

    def _client_flags(self, actions: list[Action]) -> bool:
        """Read the client's flags. An unknown one ends the connection (Client flags)."""
        if len(self._buffer) < 4:
            return False
        flags = int.from_bytes(self._take(4))
        if flags & ~int(ClientFlag.C_FIXED_NEWSTYLE | ClientFlag.C_NO_ZEROES):  # ~ of an IntFlag keeps known bits only
            actions.append(self._close(f"client flags {flags:#x}, of which we offered 0x3"))
            return False
        self._fixed_newstyle = bool(flags & ClientFlag.C_FIXED_NEWSTYLE)
        self._no_zeroes = bool(flags & ClientFlag.C_NO_ZEROES)
        self.phase = Phase.OPTIONS
        return True

    def _option(self, actions: list[Action]) -> bool:
        """Answer the next option once all of it is there."""
        if len(self._buffer) < wire.OptionHeader.SIZE:
            return False
        header = wire.OptionHeader.decode(bytes(self._buffer[: wire.OptionHeader.SIZE]))
        option, length = header.option, header.length
        if option != Opt.EXPORT_NAME and not self._fixed_newstyle:
            raise wire.MalformedPacket(f"option {option} without the fixed newstyle flag")
        if length > wire.MAX_PAYLOAD_BYTES or (length > MAX_OPTION_BYTES and option == Opt.EXPORT_NAME):
            raise wire.MalformedPacket(f"option {option} with {length} bytes of data")
        if length <= MAX_OPTION_BYTES and len(self._buffer) < wire.OptionHeader.SIZE + length:
            return False
        self._options += 1
        if self._options > MAX_OPTIONS:
            raise wire.MalformedPacket(f"more than {MAX_OPTIONS} options")
        self._take(wire.OptionHeader.SIZE)
        if length > MAX_OPTION_BYTES:
            self._skip = length
            self._after_skip = _reply(option, Rep.ERR_TOO_BIG, f"at most {MAX_OPTION_BYTES} bytes")
        else:
            actions.extend(self._answer(option, self._take(length)))
        return True

    def _answer(self, option: int, data: bytes) -> list[Action]:
        """Answer one option. Raises `wire.MalformedPacket` where only closing is left."""
        match option:
            case Opt.EXPORT_NAME:
                return [self._open(_Asked(option, wire.decode_name(data)))]
            case Opt.ABORT:
                return [_reply(option, Rep.ACK), self._close(None)]
            case Opt.LIST if data:
                return [_reply(option, Rep.ERR_INVALID, "LIST has no data")]
            case Opt.LIST:
                self.phase = Phase.WAITING
                self._asked = _Asked(option)
                return [ListExports()]
            case Opt.INFO | Opt.GO:
                try:
                    request = wire.InfoRequest.decode(data)
                except wire.MalformedPacket as error:
                    return [_reply(option, Rep.ERR_INVALID, str(error))]
                return [self._open(_Asked(option, request.name, request.requests))]
            case _:
                return [_reply(option, Rep.ERR_UNSUP)]

    def _open(self, asked: _Asked) -> OpenExport:
        # Debian's hook sends "/name" for nbdroot=HOST:/name, and means "name".
        name = asked.name.lstrip("/")
        self.phase = Phase.WAITING
        self._asked = _Asked(asked.option, name, asked.requests)
        return OpenExport(name, keep=asked.option != Opt.INFO)

    def _requests(self, actions: list[Action]) -> bool:
        """Answer the whole requests in the buffer; true when one of them has a payload to skip."""
        start = 0
        try:
            while len(self._buffer) - start >= wire.Request.SIZE:
                request = wire.Request.decode(self._buffer, start)
                start += wire.Request.SIZE
                if request.type == Cmd.READ:
                    actions.append(self._read(request))
                elif request.type == Cmd.WRITE:
                    self._write(request)
                    return True
                elif request.type == Cmd.DISC:
                    actions.append(self._close(None))
                    return False
                else:
                    actions.append(self._command(request))
        finally:
            del self._buffer[:start]
        return False

    def _read(self, request: wire.Request) -> Action:
        if request.flags or not self._inside(request):
            return _simple(request, Errno.EINVAL)
        return ReadFile(request.cookie, request.offset, request.length)

    def _write(self, request: wire.Request) -> None:
        """Refuse a WRITE after its payload, however much of that is still to come."""
        if request.length > wire.MAX_PAYLOAD_BYTES:
            raise wire.MalformedPacket(f"a WRITE of {request.length} bytes")
        self._skip = request.length
        self._after_skip = _simple(request, Errno.EPERM)

    def _command(self, request: wire.Request) -> Action:
        """Answer what has no payload either way."""
        match request.type:
            case Cmd.FLUSH if not request.flags:
                return _simple(request, Errno.OK)
            case Cmd.CACHE if not request.flags and self._inside(request):
                return Prefetch(request.cookie, request.offset, request.length)
            case Cmd.TRIM | Cmd.WRITE_ZEROES:
                return _simple(request, Errno.EPERM)
            case _:
                return _simple(request, Errno.EINVAL)

    def _inside(self, request: wire.Request) -> bool:
        return request.length <= wire.MAX_PAYLOAD_BYTES and request.offset + request.length <= self._size

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _close(self, reason: str | None) -> Close:
        self.phase = Phase.CLOSED
        self.deadline = None
        self._buffer.clear()
        self._skip = 0
        self._after_skip = None
        return Close(reason)


def _reply(option: int, kind: Rep, message: str = "") -> Send:
    return Send(wire.OptionReply(option, kind, message.encode()).encode())


def _simple(request: wire.Request, error: Errno) -> Send:
    return Send(wire.SimpleReply(request.cookie, error).encode())
