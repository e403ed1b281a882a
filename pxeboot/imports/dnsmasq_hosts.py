"""One line dhcp-host of dnsmasq → a machine. Pure."""

import re

from pxeboot.imports import words
from pxeboot.imports.dnsmasq_text import Line
from pxeboot.imports.found import Draft
from pxeboot.imports.machines import Machines

_MAC = re.compile(r"(?:[0-9a-fA-F]{1,2}-)?(?P<mac>(?:[0-9a-fA-F*]{1,2}[:-]){5}[0-9a-fA-F*]{1,2})")


def host(line: Line, draft: Draft, machines: Machines, *, has_pools: bool) -> None:
    """Take one machine, or say why it cannot be one. `has_pools`: strangers get addresses too."""
    mark, what = line.mark, f"dhcp-host={line.value}"
    macs: list[str] = []
    tags: list[str] = []
    conditions: list[str] = []
    ip, name, identifier, lease, ignored = None, "", "", None, False
    for word in line.words():
        low = word.lower()
        card = _MAC.fullmatch(word)
        if card is not None:
            macs.append(card["mac"].replace("-", ":").lower())
        elif low.startswith(("set:", "net:")):
            tags.append(word[4:])
        elif low.startswith("tag:"):
            conditions.append(word[4:])
        elif low.startswith("id:"):
            identifier = word[3:]
        elif low == "ignore":
            ignored = True
        elif word.startswith("["):
            draft.note(mark, f"{word} of {what}", "IPv6 is not served here")
        elif (found := words.address(word)) is not None:
            ip = found
        elif (seconds := words.lease_s(word)) is not None:
            lease = seconds
        elif word:
            name = word
    if ignored:
        if has_pools:
            why = "who is not listed gets an address of a pool; take the pool away, or keep it off at its switch"
            draft.lost(mark, what, why)
        else:
            draft.note(mark, what, "who is not listed gets no answer anyway")
        return
    if any("*" in mac for mac in macs):
        draft.lost(mark, what, "a machine is known by whole MACs here, not by a pattern of them")
        return
    if conditions:
        draft.lost(mark, what, f"who is a machine is not decided by tags here ({', '.join(conditions)})")
        return
    if ip is None:
        draft.lost(mark, what, "a machine has an address of its own here; give it one")
        return
    known_by = {"client_id": identifier} if identifier and identifier != "*" else {}
    if not macs and not known_by:
        draft.lost(mark, what, "a machine is not known by the name that it says; give its MAC")
        return
    machines.add(mark, name, ip, macs=[_padded(mac) for mac in macs], known_by=known_by, tags=tags,
                 dhcp={"lease_s": lease} if lease else None)  # fmt: skip


def _padded(mac: str) -> str:
    return ":".join(octet.zfill(2) for octet in mac.split(":"))
