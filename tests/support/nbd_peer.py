"""A client of `nbd.engine.Session`, and whoever owns its socket, in one: answers its questions, keeps its actions."""

import struct
from dataclasses import dataclass, field

from nbd import wire
from nbd.actions import Action, Close, Command, ExportInfo, ListExports, OpenExport, Send, StartTls, TlsMode
from nbd.engine import Session
from nbd.exports import Refused
from nbd.metadata import MetaContextRequest
from nbd.wire import Opt, Rep

SIZE = 1 << 20
IMAGE = ExportInfo(SIZE)
DISK = ExportInfo(SIZE, writable=True, description="of m1", fast_zero=True)
GREETING = wire.Greeting(wire.HandshakeFlag(3)).encode()
FLAGS = struct.pack(">I", 3)


def option(number: int, data: bytes = b"") -> bytes:
    """An option."""
    return wire.OptionHeader(number, len(data)).encode() + data


def go(name: str = "node", *requests: int, number: int = Opt.GO) -> bytes:
    """GO, or INFO."""
    return option(number, wire.InfoRequest(name, requests).encode())


def contexts(name: str, *queries: str, number: int = Opt.SET_META_CONTEXT) -> bytes:
    """SET_META_CONTEXT, or LIST_META_CONTEXT."""
    return option(number, MetaContextRequest(name, queries).encode())


def reply(number: int, kind: int, data: bytes = b"") -> bytes:
    """The answer to an option."""
    return wire.OptionReply(number, kind, data).encode()


@dataclass
class Peer:
    """Opens what is in `exports`; commands are kept, and not answered."""

    tls: TlsMode = TlsMode.NONE
    exports: dict[str, ExportInfo | Refused] = field(default_factory=lambda: {"": IMAGE, "node": IMAGE, "disk": DISK})
    sent: bytes = b""
    done: list[Action] = field(default_factory=list)
    """All actions but Send."""

    def __post_init__(self) -> None:
        self.session = Session(self.tls)
        self.carry_out(self.session.start(0.0))

    def carry_out(self, actions: list[Action]) -> None:
        """Do as the session says."""
        for action in actions:
            if isinstance(action, Send):
                self.sent += action.data
                continue
            self.done.append(action)
            match action:
                case OpenExport(name):
                    found = self.exports.get(name, Refused.UNKNOWN)
                    if isinstance(found, Refused):
                        self.carry_out(self.session.export_refused(found))
                    else:
                        self.carry_out(self.session.export_opened(found))
                case ListExports():
                    self.carry_out(self.session.exports_listed(["node", "é"]))
                case StartTls():
                    self.carry_out(self.session.secured())
                case _:
                    pass

    def receive(self, *pieces: bytes) -> "Peer":
        """Have these pieces arrive, one after the other."""
        for piece in pieces:
            self.carry_out(self.session.receive(piece, 1.0))
        return self

    def forget(self) -> "Peer":
        """Forget what was done and sent until now."""
        self.sent, self.done = b"", []
        return self

    @property
    def closed(self) -> Close | None:
        """The end, if it has come."""
        last = self.done[-1] if self.done else None
        return last if isinstance(last, Close) else None

    @property
    def commands(self) -> list[Action]:
        """What is to be done with the export."""
        return [action for action in self.done if isinstance(action, Command)]

    @property
    def replies(self) -> list[tuple[int, int, bytes]]:
        """(option, type, data) of every option reply after the greeting."""
        replies, rest = [], self.sent.removeprefix(GREETING)
        while rest:
            end = 20 + int.from_bytes(rest[16:20])
            parsed = wire.OptionReply.decode(rest[:end])
            replies.append((parsed.option, parsed.type, parsed.data))
            rest = rest[end:]
        return replies

    def kinds(self) -> list[Rep]:
        """The types of the option replies."""
        return [Rep(kind) for _, kind, _ in self.replies]


def negotiated(*options: bytes, name: str = "node") -> Peer:
    """Return a peer that has agreed on `options` and opened an export, with nothing in `sent`."""
    return Peer().receive(FLAGS, *options, go(name)).forget()


def cut(data: bytes, step: int) -> list[bytes]:
    """Return the same bytes in pieces."""
    return [data[i : i + step] for i in range(0, len(data), step)]
