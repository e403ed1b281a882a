"""An explanation in a sentence or two: what becomes of the machine, before every field of it. Pure."""

from collections.abc import Iterator

from dhcp.options import MessageType, Option
from dhcp.wire import NO_ADDRESS
from pxeboot.explain.explanation import NOT_OURS, Answer, Explanation


def in_short(one: Explanation) -> str:
    """Return what a machine gets, what it does then, and whether it boots; if not, why."""
    if one.answer is None:
        why = f": {one.problem.words}" if one.problem else ""
        return f"{one.name} gets no answer from us{why}."
    if one.answer.kind == MessageType.DHCPNAK.name:
        return f"{one.name} is refused the address that it asks for, and has to begin again."
    said = f"{one.name} {_listed([*_parts(one)])}."
    if one.boots:
        return said
    return f"{said} It does not boot{': ' if (why := _why_not(one)) else ''}{why}."


def _parts(one: Explanation) -> Iterator[str]:
    """Yield what it does, one thing after the other."""
    answer = one.answer
    assert answer is not None
    address = answer.send.message.yiaddr
    if address != NO_ADDRESS:
        yield f"gets {address}"
    elif one.beside is not None:
        yield "gets its address from another server"
    last = one.boot_server.answer if one.boot_server is not None else answer
    if one.boot_server is not None:
        yield "asks us on UDP 4011 what to boot"
    file = _file(last) if last is not None else ""
    if one.steps and one.steps[-1].to_disk:
        yield "is told to start its own disk"
        return
    if not file:  # an address is all that it wants, or it knows itself what to fetch; or it does not boot
        yield one.steps[-1].what if one.boots else "is told of nothing to boot"
        return
    assert last is not None
    message = last.send.message
    by = "" if "://" in file else f" by TFTP from {message.siaddr}"
    if one.intent is not None and one.boots:
        if one.intent.follows.startswith(NOT_OURS):
            yield f"is told to fetch {file}{by}, which is not ours"
            return
        yield f"is told to fetch {file}{by}"
        yield one.intent.follows
        return
    yield f"is told to fetch {file}{by}"


def _why_not(one: Explanation) -> str:
    """Return why a machine that is answered does not boot; nothing, if no part says so."""
    if one.problem is not None:
        return one.problem.words
    failed = next((step.what for step in reversed(one.steps) if not step.ok or step.to_disk), "")
    if failed:
        return f"its {one.model.value} {failed}"
    if one.boot_server is not None and not one.boot_server.boots:
        return _why_not(one.boot_server)
    return one.intent.follows if one.intent is not None else ""


def _file(answer: Answer) -> str:
    """Return the boot file that an answer names."""
    message = answer.send.message
    raw = message.options.get(Option.BOOTFILE_NAME, b"") or message.file
    text = raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    return text if text.isprintable() else repr(text)


def _listed(parts: list[str]) -> str:
    """Return parts of a sentence as one: "a", "a and b", "a, b; then c".

    >>> _listed(["gets 10.0.0.1", "is told to fetch x", "our GRUB loads y"])
    'gets 10.0.0.1 and is told to fetch x; then our GRUB loads y'
    """
    does = [part for part in parts if not part.startswith("our GRUB")]
    then = [f"then {part}" for part in parts if part.startswith("our GRUB")]
    first = " and ".join((", ".join(does[:-1]), does[-1])) if len(does) > 1 else "".join(does)
    return "; ".join((first, *then))
