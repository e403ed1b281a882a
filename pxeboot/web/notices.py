"""What the page says before all else: what keeps machines from booting that is no one machine's trouble. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dhcp.others import Other, Standing
from pxeboot.reloading.state import Reloads
from pxeboot.selftest.findings import Finding
from pxeboot.web import words

MOST = 8
"""Lines of one kind that are shown; a broken file can have hundreds."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One line. `is_error`: machines do not boot, or not as the farm's file says."""

    is_error: bool
    what: str
    why: Sequence[str] = ()
    """Lines that say more."""
    remedy: str = ""


def notices(
    findings: Iterable[Finding],
    reloads: Reloads | None,
    joins: Mapping[str, Any],
    dhcp: Sequence[str],
    others: Iterable[Other],
    now_s: float,
) -> list[Notice]:
    """Return what is to be said, what matters most first.

    `joins` is what the daemon's status says of the controller, `dhcp` what keeps DHCP from serving.
    """
    found = list(_configuration(reloads))
    found += [Notice(True, f"DHCP: {line}") for line in dhcp[:MOST]]
    errors = [finding for finding in findings if finding.level == "error"]
    found += [Notice(True, finding.what, (), finding.remedy) for finding in errors[:MOST]]
    controller = joins.get("controller")
    if controller and not controller["connected"]:
        why = [str(controller["trouble"])] if controller["trouble"] else []
        since = words.ago(max(0.0, now_s - controller["since_s"]))
        found.append(Notice(True, f"The controller has not answered for {since}; machines wait to join", why))
    elif controller and controller["trouble"]:
        found.append(Notice(True, f"The controller: {controller['trouble']}"))
    conflicts = [other for other in others if other.standing is Standing.CONFLICT]
    found += [Notice(True, f"Another DHCP server is in our way: {other.name}", [other.words()]) for other in conflicts]
    return found


def _configuration(reloads: Reloads | None) -> Iterator[Notice]:
    if reloads is None:
        return
    if reloads.refused:
        more = len(reloads.refused) - MOST
        lines = [*reloads.refused[:MOST], *[f"and {more} more; `pxeboot check` has all"] * (more > 0)]
        yield Notice(True, "The farm's file as it is now was refused; what was served before goes on", lines)
    if reloads.needs_restart:
        yield Notice(False, "The farm's file says more, which takes a restart", list(reloads.needs_restart[:MOST]))
