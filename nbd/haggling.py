"""The options of one connection, until it has an export (Option haggling).

A client may ask what exports there are (LIST), and about one (INFO); it says which forms of replies it understands
(STRUCTURED_REPLY, EXTENDED_HEADERS), which metadata it wants (SET_META_CONTEXT), and that it wants TLS (STARTTLS). It
chooses an export with GO, or as in old days with EXPORT_NAME. Each option gets an answer, and what we do not know gets
ERR_UNSUP; only a broken rule and EXPORT_NAME, for which there are no errors, end the connection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from nbd import metadata, replies, wire
from nbd.actions import Action, Close, ExportInfo, ListExports, OpenExport, Send, StartTls, TlsMode
from nbd.exports import Refused
from nbd.inbox import Inbox
from nbd.transmission import Transmission, transmission_flags
from nbd.wire import ClientFlag, Info, Opt, Rep

MAX_OPTIONS = 2000
"""How many options a client may send, as in nbdkit and QEMU."""
MAX_OPTION_BYTES = 16384
"""The longest option data that we keep: a name of 4096 bytes and thousands of information requests."""
MINIMUM_BLOCK_BYTES, PREFERRED_BLOCK_BYTES = 1, 4096


class Phase(Enum):
    """How far a connection is."""

    CLIENT_FLAGS = auto()
    OPTIONS = auto()
    WAITING = auto()
    """For the answer to OpenExport or ListExports; bytes that arrive meanwhile are kept."""
    SECURING = auto()
    """For the end of the TLS handshake, whose bytes are not ours."""
    TRANSMISSION = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class _Asked:
    """The option that waits for its answer."""

    option: int
    name: str = ""
    requests: tuple[int, ...] = ()


class Haggling:
    """What a client and we have agreed on so far."""

    def __init__(self, inbox: Inbox, tls: TlsMode) -> None:
        self.phase = Phase.CLIENT_FLAGS
        self.secure = False
        """Whether the connection has TLS."""
        self.replies: replies.Replies = replies.SIMPLE
        self.stopping = False
        """Whether this server is about to end, and wants no new clients."""
        self.chosen: Transmission | None = None
        """What comes after the haggling, once an export is open."""
        self._inbox = inbox
        self._tls = tls
        self._fixed_newstyle = False
        self._no_zeroes = False
        self._options = 0
        self._asked = _Asked(0)
        self._contexts_of = ""
        self._contexts: list[str] = []

    def step(self, actions: list[Action]) -> bool:
        """Take one message out of the inbox, adding to `actions`; false when there is none to take now.

        Raises `wire.MalformedPacket` where only closing is left.
        """
        match self.phase:
            case Phase.CLIENT_FLAGS:
                return self._client_flags()
            case Phase.OPTIONS:
                return self._option(actions)
            case Phase.SECURING if self._inbox.data:
                raise wire.MalformedPacket("plaintext after STARTTLS")
            case _:
                return False

    def _client_flags(self) -> bool:
        """Read the client's flags. An unknown one ends the connection (Client flags)."""
        if len(self._inbox.data) < 4:
            return False
        flags = int.from_bytes(self._inbox.take(4))
        if flags & ~int(ClientFlag.C_FIXED_NEWSTYLE | ClientFlag.C_NO_ZEROES):  # ~ of an IntFlag keeps known bits only
            raise wire.MalformedPacket(f"client flags {flags:#x}, of which we offered 0x3")
        self._fixed_newstyle = bool(flags & ClientFlag.C_FIXED_NEWSTYLE)
        self._no_zeroes = bool(flags & ClientFlag.C_NO_ZEROES)
        self.phase = Phase.OPTIONS
        return True

    def _option(self, actions: list[Action]) -> bool:
        """Answer the next option once all of it is there."""
        size = wire.OptionHeader.SIZE
        if len(self._inbox.data) < size:
            return False
        header = wire.OptionHeader.decode(bytes(self._inbox.data[:size]))
        option, length = header.option, header.length
        if option != Opt.EXPORT_NAME and not self._fixed_newstyle:
            raise wire.MalformedPacket(f"option {option} without the fixed newstyle flag")
        if length > wire.MAX_PAYLOAD_BYTES or (length > MAX_OPTION_BYTES and option == Opt.EXPORT_NAME):
            raise wire.MalformedPacket(f"option {option} with {length} bytes of data")
        too_long = length > MAX_OPTION_BYTES
        if not too_long and len(self._inbox.data) < size + length:
            return False
        self._options += 1
        if self._options > MAX_OPTIONS:
            raise wire.MalformedPacket(f"more than {MAX_OPTIONS} options")
        self._inbox.take(size)
        if too_long:
            self._inbox.drop(length, self._answer(option, None))
        else:
            actions += self._answer(option, self._inbox.take(length))
        return True

    def _answer(self, option: int, data: bytes | None) -> list[Action]:
        """Answer one option; `data` is None if there were too many. Raises `wire.MalformedPacket`."""
        if option == Opt.ABORT:
            return [_reply(option, Rep.ACK), Close(None)]
        if self.stopping:
            return self._refuse(option, Rep.ERR_SHUTDOWN)
        if self._tls is TlsMode.REQUIRED and not self.secure and option != Opt.STARTTLS:
            return self._refuse(option, Rep.ERR_TLS_REQD)
        if option == Opt.SET_META_CONTEXT:
            self._contexts = []  # also when it fails
        if data is None:
            return self._refuse(option, Rep.ERR_TOO_BIG, f"at most {MAX_OPTION_BYTES} bytes")
        if option == Opt.EXPORT_NAME:
            return self._export_name(data)
        try:
            return self._fixed_newstyle_option(option, data)
        except wire.MalformedPacket as error:
            return [_reply(option, Rep.ERR_INVALID, str(error))]

    def _fixed_newstyle_option(self, option: int, data: bytes) -> list[Action]:
        """Answer what can be answered with an error. Raises `wire.MalformedPacket` for ERR_INVALID."""
        match option:
            case Opt.INFO | Opt.GO:
                request = wire.InfoRequest.decode(data)
                return [self._open(_Asked(option, request.name, request.requests))]
            case Opt.LIST:
                _nothing(data)
                self.phase = Phase.WAITING
                self._asked = _Asked(option)
                return [ListExports()]
            case Opt.STARTTLS if self._tls is not TlsMode.NONE:
                return self._start_tls(data)
            case Opt.STRUCTURED_REPLY:
                _nothing(data)
                if self.replies is replies.EXTENDED:
                    return self._refuse(option, Rep.ERR_EXT_HEADER_REQD, "there are extended headers already")
                self.replies = replies.STRUCTURED
                return [_reply(option, Rep.ACK)]
            case Opt.EXTENDED_HEADERS:
                _nothing(data)
                if self.replies is replies.EXTENDED:
                    return self._refuse(option, Rep.ERR_INVALID, "there are extended headers already")
                self.replies = replies.EXTENDED
                return [_reply(option, Rep.ACK)]
            case Opt.LIST_META_CONTEXT | Opt.SET_META_CONTEXT:
                return self._meta_context(option, data)
            case _:
                return self._refuse(option, Rep.ERR_UNSUP)

    def _start_tls(self, data: bytes) -> list[Action]:
        """Answer STARTTLS (NBD_OPT_STARTTLS)."""
        _nothing(data)
        if self.secure:
            raise wire.MalformedPacket("there is TLS already")
        self.phase = Phase.SECURING
        if self._inbox.data:
            return []  # `step` closes: whoever added them could have the secured connection begin with them
        return [_reply(Opt.STARTTLS, Rep.ACK), StartTls()]

    def secured(self) -> None:
        """Go on after the TLS handshake. What was agreed on before it, perhaps with another, is forgotten."""
        self.secure = True
        self.phase = Phase.OPTIONS
        self.replies = replies.SIMPLE
        self._contexts = []

    def _meta_context(self, option: int, data: bytes) -> list[Action]:
        """Tell of metadata contexts, or select some. All exports have the same, so none has to be opened for it."""
        request = metadata.MetaContextRequest.decode(data)
        if not self.replies.chunked:
            raise wire.MalformedPacket("metadata contexts need structured replies")
        if option == Opt.LIST_META_CONTEXT:
            contexts, context_id = metadata.listed(request.queries), 0
        else:
            contexts, context_id = metadata.selected(request.queries), metadata.ALLOCATION_ID
            self._contexts, self._contexts_of = contexts, _without_slash(request.name)
        found: list[Action] = [
            _reply(option, Rep.META_CONTEXT, data=metadata.reply_data(context, context_id)) for context in contexts
        ]
        return [*found, _reply(option, Rep.ACK)]

    def _export_name(self, data: bytes) -> list[Action]:
        """Choose an export without any information. Raises `wire.MalformedPacket`."""
        if self.replies is replies.EXTENDED:
            raise wire.MalformedPacket("EXPORT_NAME with extended headers")
        return [self._open(_Asked(Opt.EXPORT_NAME, wire.decode_name(data)))]

    def _open(self, asked: _Asked) -> OpenExport:
        name = _without_slash(asked.name)
        self.phase = Phase.WAITING
        self._asked = _Asked(asked.option, name, asked.requests)
        return OpenExport(name, keep=asked.option != Opt.INFO)

    def opened(self, info: ExportInfo) -> list[Action]:
        """Go on after OpenExport."""
        asked = self._asked
        if asked.option == Opt.INFO:
            self.phase = Phase.OPTIONS
        else:
            self.phase = Phase.TRANSMISSION
            contexts = self._contexts if self._contexts_of == asked.name else []
            ids = tuple(metadata.ALLOCATION_ID for _ in contexts)
            self.chosen = Transmission(self._inbox, self.replies, info, ids)
        flags = transmission_flags(info, self.replies)
        if asked.option == Opt.EXPORT_NAME:
            return [Send(wire.export_name_reply(info.size_bytes, flags, zeroes=not self._no_zeroes))]
        infos = [wire.info_export(info.size_bytes, flags)]
        if Info.NAME in asked.requests:
            infos.append(wire.info_name(asked.name))
        if Info.DESCRIPTION in asked.requests and info.description:
            infos.append(wire.info_description(info.description))
        if Info.BLOCK_SIZE in asked.requests:
            infos.append(wire.info_block_size(MINIMUM_BLOCK_BYTES, PREFERRED_BLOCK_BYTES, wire.MAX_PAYLOAD_BYTES))
        told = [wire.OptionReply(asked.option, Rep.INFO, item).encode() for item in infos]
        return [Send(b"".join(told) + wire.OptionReply(asked.option, Rep.ACK).encode())]

    def refused(self, why: Refused) -> list[Action]:
        """Go on after OpenExport: there is no such export for this client."""
        self.phase = Phase.OPTIONS
        match why:
            case Refused.TLS_REQUIRED if self._tls is not TlsMode.NONE:
                return self._refuse(self._asked.option, Rep.ERR_TLS_REQD, "not without TLS")
            case Refused.POLICY | Refused.TLS_REQUIRED:
                return self._refuse(self._asked.option, Rep.ERR_POLICY, "not for you")
            case Refused.UNKNOWN:
                return self._refuse(self._asked.option, Rep.ERR_UNKNOWN, "no such export")

    def listed(self, names: Sequence[str]) -> list[Action]:
        """Go on after ListExports."""
        self.phase = Phase.OPTIONS
        servers = [wire.OptionReply(Opt.LIST, Rep.SERVER, wire.server_data(name)).encode() for name in names]
        return [Send(b"".join(servers) + wire.OptionReply(Opt.LIST, Rep.ACK).encode())]

    def _refuse(self, option: int, kind: Rep, message: str = "") -> list[Action]:
        """Answer with an error; EXPORT_NAME knows none but the end (NBD_OPT_EXPORT_NAME)."""
        return [Close(None)] if option == Opt.EXPORT_NAME else [_reply(option, kind, message)]


def _reply(option: int, kind: Rep, message: str = "", *, data: bytes = b"") -> Send:
    return Send(wire.OptionReply(option, kind, data or message.encode()).encode())


def _nothing(data: bytes) -> None:
    """Refuse data where an option has none. Raises `wire.MalformedPacket`."""
    if data:
        raise wire.MalformedPacket("this option has no data")


def _without_slash(name: str) -> str:
    """Return an export's name: Debian's hook sends "/name" for nbdroot=HOST:/name, and means "name"."""
    return name.lstrip("/")
