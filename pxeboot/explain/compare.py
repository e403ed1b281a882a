"""A capture explained: each request with what was really answered, and what we would have answered. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from config.dhcpoptions import decode_value, name_of
from dhcp import options
from dhcp.models import Step, next_steps
from dhcp.options import Option
from dhcp.request import BOOT_SERVER_PORT, SERVER_PORT, Arrival
from dhcp.wire import Message, Op
from pxeboot.explain.capture import Captured
from pxeboot.explain.explanation import Desk, Explanation

_EVERYBODY = IPv4Address("255.255.255.255")
_FIELDS = ("yiaddr", "siaddr", "sname", "file")


@dataclass(frozen=True, slots=True)
class Difference:
    """One field or option that a real answer and ours do not have alike; empty: it is not there."""

    name: str
    theirs: str
    ours: str


@dataclass(frozen=True, slots=True)
class Real:
    """An answer in the capture."""

    captured: Captured
    differs: tuple[Difference, ...]
    """From ours; nothing, if we would give none."""

    @property
    def server(self) -> str:
        """Who sent it."""
        named = options.address(self.captured.message.options.get(Option.SERVER_IDENTIFIER))
        return str(named or self.captured.datagram.source)


@dataclass(frozen=True, slots=True)
class Compared:
    """One request of a capture."""

    captured: Captured
    explanation: Explanation
    real: tuple[Real, ...]
    took: tuple[Step, ...]
    """What its client did with the real answers, by the models; nothing, if there were none."""
    would_take: tuple[Step, ...]
    """What it would do if ours came behind them."""


def compare(
    desk: Desk,
    messages: Sequence[Captured],
    now: float,
    ours: Callable[[Captured], IPv4Address | None],
    macs: Iterable[str] = (),
) -> tuple[tuple[Compared, ...], tuple[Captured, ...]]:
    """Explain every request in `messages` (of `macs`, if given), one after the other, as a server would get them.

    `ours` says at which of our addresses a request comes in. Also returns those for which it cannot say.
    """
    wanted = frozenset(macs)
    out, nowhere = [], []
    first_s = messages[0].time_s if messages else 0.0
    talks: dict[tuple[int, bytes], list[Captured]] = {}
    for captured in messages:
        talks.setdefault((captured.message.xid, captured.message.chaddr), []).append(captured)
    for captured in messages:
        message = captured.message
        if message.op is not Op.BOOTREQUEST or (wanted and message.chaddr.hex(":") not in wanted):
            continue
        if captured.datagram.destination_port not in (SERVER_PORT, BOOT_SERVER_PORT):
            continue
        address = ours(captured)
        if address is None:
            nowhere.append(captured)
            continue
        elapsed_s = max(0.0, captured.time_s - first_s)
        explanation = desk.explain(message, arrival_of(captured, address), now + elapsed_s)
        answer = explanation.answer.send.message if explanation.answer else None
        real = tuple(
            Real(reply, differences(reply.message, answer))
            for reply in _replies(talks[message.xid, message.chaddr], captured)
        )
        heard = [one.captured.message for one in real]
        out.append(
            Compared(
                captured,
                explanation,
                real,
                next_steps(message, *heard) if heard else (),
                next_steps(message, *heard, answer) if heard and answer is not None else (),
            )
        )
    return tuple(out), tuple(nowhere)


def arrival_of(captured: Captured, ours: IPv4Address) -> Arrival:
    """Return how a captured request comes in at `ours`."""
    datagram = captured.datagram
    return Arrival(
        ours,
        unicast=datagram.destination != _EVERYBODY,
        source_port=datagram.source_port,
        port=datagram.destination_port,
        source=datagram.source,
    )


def differences(theirs: Message, ours: Message | None) -> tuple[Difference, ...]:
    """Return what differs between a real answer and ours, fields first."""
    if ours is None:
        return ()
    out = []
    fields = [(name, _field(theirs, name), _field(ours, name)) for name in _FIELDS]
    codes = dict.fromkeys((*theirs.options, *ours.options))
    said = [(f"{code} {name_of(code)}", _option(theirs, code), _option(ours, code)) for code in codes]
    for name, one, other in (*fields, *said):
        if one != other:
            out.append(Difference(name, one, other))
    return tuple(out)


def _field(message: Message, name: str) -> str:
    match name:
        case "yiaddr":
            return str(message.yiaddr)
        case "siaddr":
            return str(message.siaddr)
        case "sname":
            return repr(message.sname.decode("utf-8", "backslashreplace")) if message.sname else ""
        case _:
            return repr(message.file.decode("utf-8", "backslashreplace")) if message.file else ""


def _option(message: Message, code: int) -> str:
    value = message.options.get(code)
    return "" if value is None else decode_value(code, value) or "empty"


def _replies(talk: Sequence[Captured], asked: Captured) -> list[Captured]:
    """The answers to a request: those in the talk of its machine and xid that come before it asks again.

    A client asks several times with one xid, so that an answer is the latest request's. What was captured twice, on
    several interfaces, counts once.
    """
    found: list[Captured] = []
    for captured in talk[talk.index(asked) + 1 :]:
        message = captured.message
        if message.op is Op.BOOTREQUEST:
            if message == asked.message:
                continue
            break
        if message not in [other.message for other in found]:
            found.append(captured)
    return found
