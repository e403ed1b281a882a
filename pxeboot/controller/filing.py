"""The certificate requests that were made with tokens of boots, by boot: to be decided, or approved. Pure.

The API is their memory: a controller that starts finds here what was approved before, and approves nothing else for
the same boot. Times are monotonic seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pxeboot.controller.token import MACHINES_GROUP, BootOfNode, boot_group, read_boot_group
from pxeboot.kube.values import Request

MOST = 20_000
"""Requests that are kept; then the oldest is forgotten, which leaves it undecided."""
MOST_OF_BOOT = 32
"""Of one boot; then its oldest that waits is forgotten. So who has a token displaces what was made with it alone, and
what was approved stays known."""
STRANGE_AFTER_S = 60.0
"""So long the boot that a request names may be unknown before that is told: the daemon may be about to tell it."""


@dataclass(slots=True, eq=False)
class Filed:
    """One request. `due`: when to decide it; None: that is under way, or there is nothing to decide."""

    request: Request
    names: BootOfNode
    due: float | None
    strange_at: float | None
    """When to tell that its boot is unknown; None: told, or known."""
    failures: int = 0


def named_boot(request: Request) -> BootOfNode | None:
    """Return the boot that the groups of a request name; None: it was not made with a boot's token."""
    named = [found for found in map(read_boot_group, request.groups) if found is not None]
    return named[0] if named else None


def has_groups_of(request: Request, boot: str, node: str) -> bool:
    """Whether a request was made with the token of this boot: no bootstrap groups but its two."""
    wanted = {MACHINES_GROUP, boot_group(boot, node)}
    return {group for group in request.groups if group.startswith("system:bootstrappers:")} == wanted


class Filing:
    """Requests by uid and by boot, bounded."""

    def __init__(self) -> None:
        """Begin empty."""
        self._by_uid: dict[str, Filed] = {}
        self._by_boot: dict[str, dict[str, Filed]] = {}
        self._told: dict[str, None] = {}

    def __iter__(self) -> Iterator[Filed]:
        return iter(self._by_uid.values())

    def put(self, request: Request, now: float) -> Filed | None:
        """Keep a request as it is now; None if it concerns nobody: not a boot's, or denied."""
        names = named_boot(request)
        if names is None or request.denied:
            self.drop(request.uid)
            return None
        known = self._by_uid.get(request.uid)
        if known is not None:
            known.request = request
            if request.approved:
                known.due = None
            return known
        filed = Filed(request, names, now if request.waits else None, now + STRANGE_AFTER_S)
        self._by_uid[request.uid] = filed
        self._by_boot.setdefault(names.boot, {})[request.uid] = filed
        of_boot = self._by_boot[names.boot]
        if len(of_boot) > MOST_OF_BOOT:
            self.drop(next((uid for uid, known in of_boot.items() if known.request.waits), next(iter(of_boot))))
        if len(self._by_uid) > MOST:
            self.drop(next(iter(self._by_uid)))
        return filed

    def get(self, uid: str) -> Filed | None:
        """Return one that is kept."""
        return self._by_uid.get(uid)

    def of(self, boot: str) -> list[Filed]:
        """Return those of a boot, the approved ones first: they decide about the others."""
        return sorted(self._by_boot.get(boot, {}).values(), key=lambda filed: not filed.request.approved)

    def drop(self, uid: str) -> None:
        """Forget one."""
        filed = self._by_uid.pop(uid, None)
        if filed is not None:
            of_boot = self._by_boot[filed.names.boot]
            del of_boot[uid]
            if not of_boot:
                del self._by_boot[filed.names.boot]

    def strange(self, filed: Filed) -> bool:
        """Note that its boot is unknown; return whether that is still to be told, once for each boot."""
        filed.strange_at = None
        if filed.names.boot in self._told:
            return False
        self._told[filed.names.boot] = None
        if len(self._told) > MOST:
            del self._told[next(iter(self._told))]
        return True
