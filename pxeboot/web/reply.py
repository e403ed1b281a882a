"""The DHCP answer that a machine was given, and the line or rule behind each part of it. Slow: in a thread."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from config.dhcpoptions import decode_value, name_of
from config.marks import Where
from dhcp import wire
from dhcp.engine import Server
from dhcp.options import MessageType, Option
from dhcp.replies import EVERYBODY
from pxeboot.answered import Answer
from pxeboot.explain import packets
from pxeboot.explain.compare import differences
from pxeboot.explain.explanation import Desk, Explanation
from pxeboot.explain.ground import Source
from pxeboot.explain.rows import Row
from pxeboot.intents import Intent
from pxeboot.probe.client import Kind, architecture
from pxeboot.web.ground import Known

_SAME_IN_ALL = frozenset({"op", "htype", "hlen", "hops", "xid", "secs", "flags", "ciaddr", "giaddr", "chaddr"})
"""Fields that say nothing of the configuration; they stand at the end."""


@dataclass(frozen=True, slots=True)
class Part:
    """One field or option of the answer."""

    label: str
    value: str
    why: str
    """The rule, or which part of the configuration."""
    where: str
    """FILE:LINE, "" if no line says it."""
    setting: str
    """The keys that lead there."""
    also: str
    """What else there is to say: why it is sent, what it overrode."""
    now: str = ""
    """What it would be now, if that is something else."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """What comes of it."""

    problem: str
    """What is wrong, if something is."""
    advice: str
    steps: tuple[tuple[str, bool, str], ...]
    """What the client does then, whether that is well, and why one thinks so."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, explained."""

    real: bool
    """Whether it was sent; else it is what the machine would get."""
    at_s: float
    kind: str
    size_bytes: int
    to: str
    asked: str
    """What asked, in words."""
    network: str
    parts: tuple[Part, ...]
    plain: tuple[Part, ...]
    """Fields that are alike in every answer."""
    not_sent: tuple[Part, ...]
    ahead: Ahead


def explain(known: Known, answer: Answer | None, mac: str) -> Reply | None:
    """Return the answer that was sent, with the rules of now; if there was none, what the machine would get.

    None: nothing is known of how it would ask.
    """
    desk = Desk(
        Server(known.plan, known.leases, known.now_s),
        known.farm,
        known.marks,
        _records(known),
        frozenset((known.ours,)),
    )
    if answer is None:
        if not mac:
            return None
        raw = bytes.fromhex(mac.replace(":", ""))
        kind = "rpi" if packets.is_raspberry_pi(raw) else "uefi-x64"
        sender = packets.Sender(raw, Kind.PXE, architecture(kind, Kind.PXE))
        asked = packets.discover(sender)
        one = desk.explain(asked, packets.arrival_of(asked, known.ours), known.now_s)
        return _made_up(one, sender.words, known.now_s)
    asked = wire.decode(answer.asked)
    one = desk.explain(asked, answer.arrival, answer.at_s)
    return _sent(one, answer)


def _records(known: Known) -> Mapping[str, Intent]:
    return {known.name: known.intent} if known.intent.since_s is not None else {}


def _made_up(one: Explanation, words: str, now_s: float) -> Reply:
    """Return what would be sent."""
    answer = one.answer
    parts, plain, not_sent = _parts(one, {})
    return Reply(
        real=False,
        at_s=now_s,
        kind=answer.kind if answer else "no answer",
        size_bytes=len(answer.packed.data) if answer else 0,
        to=_to(answer.send.destination.address) if answer else "",
        asked=f"{words} asks (DHCPDISCOVER)",
        network=one.network.why if one.network else "",
        parts=parts,
        plain=plain,
        not_sent=not_sent,
        ahead=_ahead(one),
    )


def _sent(one: Explanation, answer: Answer) -> Reply:
    """Return what was sent. Where the same request would get something else now, both are told."""
    theirs = wire.decode(answer.data)
    ours = one.answer.send.message if one.answer else None
    then = {difference.name: (difference.theirs, difference.ours) for difference in differences(theirs, ours)}
    parts, plain, not_sent = _parts(one, then)
    kind = theirs.options.get(Option.DHCP_MESSAGE_TYPE)
    return Reply(
        real=True,
        at_s=answer.at_s,
        kind=_name(kind) if kind else "BOOTP reply",
        size_bytes=len(answer.data),
        to=_to(answer.destination.address),
        asked=f"{one.model.value} asked ({_name(one.asked.options.get(Option.DHCP_MESSAGE_TYPE))})",
        network=one.network.why if one.network else "",
        parts=parts if one.answer else tuple(_bare(theirs)),
        plain=plain,
        not_sent=not_sent,
        ahead=_ahead(one),
    )


def _name(value: bytes | None) -> str:
    try:
        return MessageType(value[0]).name if value else "BOOTP"
    except ValueError:
        return f"message type {value[0] if value else 0}"


def _ahead(one: Explanation) -> Ahead:
    steps = tuple((step.what, step.ok, step.because) for step in one.steps)
    problem = one.problem
    return Ahead(problem.words if problem else "", problem.advice if problem else "", steps)


def _to(address: IPv4Address) -> str:
    return "everybody (broadcast)" if address == EVERYBODY else str(address)


_Three = tuple[tuple[Part, ...], tuple[Part, ...], tuple[Part, ...]]


def _parts(one: Explanation, then: Mapping[str, tuple[str, str]]) -> _Three:
    """Return the parts that are the machine's, those that are in every answer, and what is not sent."""
    answer = one.answer
    if answer is None:
        return (), (), ()
    fields = [_part(row, then) for row in answer.fields if row.name not in _SAME_IN_ALL]
    options = [_part(row, then) for row in answer.options]
    known = {part.label for part in (*fields, *options)}
    gone = [Part(name, was, "", "", "", "it would not be sent now", "none") for name, (was, _) in then.items()
            if name not in known and was]  # fmt: skip
    plain = tuple(_part(row, then) for row in answer.fields if row.name in _SAME_IN_ALL)
    return (*fields, *options, *gone), plain, tuple(_part(row, {}) for row in (*answer.left_out, *answer.not_sent))


def _part(row: Row, then: Mapping[str, tuple[str, str]]) -> Part:
    was = then.get(row.label)
    value, now = (was[0] or "not sent", row.value) if was is not None else (row.value, "")
    words = [row.sent] if row.sent else []
    if row.inside:
        words.append(f"in the field {row.inside}, for lack of room")
    words += _more(row.source)
    where = row.source.where
    return Part(row.label, value, row.source.why, _at(where), where.setting if where else "", "; ".join(words), now)


def _more(source: Source) -> Iterable[str]:
    if source.note:
        yield source.note
    for lost in source.overrode:
        at = f" ({_at(lost.where)})" if lost.where else ""
        yield f"instead of {lost.value} of {lost.level}{at}"


def _at(where: Where | None) -> str:
    return "" if where is None else str(where)


def _bare(message: wire.Message) -> Iterable[Part]:
    """Yield what was sent to who would get no answer now: there is no rule to tell."""
    no_rule = "no rule: the same request would get no answer now"
    for name, value in (("yiaddr", message.yiaddr), ("siaddr", message.siaddr)):
        yield Part(name, str(value), no_rule, "", "", "")
    for name, text in (("sname", message.sname), ("file", message.file)):
        yield Part(name, repr(text.decode("utf-8", "backslashreplace")) if text else "", no_rule, "", "", "")
    for code, raw in message.options.items():
        yield Part(f"{code} {name_of(code)}", decode_value(code, raw), no_rule, "", "", "")
