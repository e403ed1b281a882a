"""Which certificate requests are approved, and why others are not. Pure; times are monotonic seconds."""

from collections.abc import Mapping

from config.events import Stage
from pxeboot.controller.boot import Action, Approve, Boot, Deny, Phase, Tell
from pxeboot.controller.filing import Filed, Filing, has_groups_of
from pxeboot.controller.pause import pause_s
from pxeboot.controller.request import KUBELET_SIGNER, Unfit, check_terms, public_key
from pxeboot.controller.token import USERNAME, node_digest
from pxeboot.kube.values import Request

MOST_TOLD = 3
"""Denials of one boot that people are told of; a thief could go on for as long as the token lives."""


def key_to_approve(boot: Boot, request: Request, now: float) -> str:
    """Return the digest of the public key for which this request may be approved. Raises `Unfit`.

    The API server attests who asks, and the groups, which say for which boot. The rest is: that boot is the newest of
    its node, its token lives, the request is one that its kubelet makes, and no other key was approved for it.
    """
    if boot.is_over:
        raise Unfit(f"its boot is over: {boot.over}")
    if not boot.token_id:
        raise Unfit("no token was made for its boot")
    user = USERNAME.fullmatch(request.username)
    if user is None or user[1] != boot.token_id:
        raise Unfit("it was not made with the token of its boot")
    if not has_groups_of(request, boot.id, boot.node):
        raise Unfit("its groups are not those of its boot alone")
    if boot.deleted or now >= boot.expires:
        raise Unfit("the time of its token is over")
    check_terms(request.signer, request.usages)
    key = public_key(request.pem, boot.node)
    if boot.key not in (None, key):
        raise Unfit("another key was approved for its boot before")
    return key


class Judge:
    """Decides the requests that name a boot in `boots`, and leaves those of others alone."""

    def __init__(self, boots: Mapping[str, Boot], ttl_s: float) -> None:
        """`ttl_s` is how long a token lives of which nothing else is known."""
        self._boots = boots
        self._ttl_s = ttl_s
        self._filing = Filing()
        self._synced = False

    def boot_of(self, filed: Filed | None) -> Boot | None:
        """Return the boot that a request names; None if we do not know it."""
        boot = self._boots.get(filed.names.boot) if filed is not None else None
        return boot if boot and filed and filed.names.node_digest == node_digest(boot.node) else None

    def seen(self, request: Request, now: float) -> tuple[Boot | None, list[Action]]:
        """A request is there, or changed: return its boot, if known, and what follows."""
        boot = self.boot_of(self._filing.put(request, now))
        return boot, [] if boot is None else self.decide(boot, now)

    def known(self, boot: Boot, now: float) -> list[Action]:
        """A boot was told of. The API may know of its requests for long."""
        for filed in self._filing.of(boot.id):
            filed.due = now if filed.request.waits else None
        return self.decide(boot, now)

    def gone(self, uid: str) -> None:
        """A request is there no more, or was denied."""
        self._filing.drop(uid)

    def failed(self, uid: str, now: float, after_s: float | None) -> None:
        """The decision did not get through; take it again later."""
        filed = self._filing.get(uid)
        if filed is not None and filed.request.waits:
            filed.due = now + pause_s(filed.failures, after_s)
            filed.failures += 1

    def synced(self, now: float) -> list[Action]:
        """All requests that there are have been seen. Before, one that was approved could have been missed."""
        self._synced = True
        boots = {boot.id: boot for boot in map(self.boot_of, self._filing) if boot is not None}
        return [action for boot in boots.values() for action in self.decide(boot, now)]

    def decide(self, boot: Boot, now: float) -> list[Action]:
        """Decide what is due of a boot's requests; those that were approved come first."""
        actions: list[Action] = []
        for filed in self._filing.of(boot.id):
            if self.boot_of(filed) is not boot:
                continue
            filed.strange_at = None
            if filed.request.approved:
                actions += self._was_approved(boot, filed.request, now)
            elif self._synced and filed.due is not None and filed.due <= now:
                filed.due = None
                actions += self._decide(boot, filed.request, now)
        return actions

    @property
    def deadline(self) -> float | None:
        """When `expire` is due."""
        dues = [filed.due if filed.strange_at is None else filed.strange_at for filed in self._filing]
        return min((due for due in dues if due is not None), default=None) if self._synced else None

    def expire(self, now: float) -> list[Action]:
        """Decide again what failed, and tell of requests whose boot nobody told us of."""
        actions: list[Action] = []
        for filed in list(self._filing):
            boot = self.boot_of(filed)
            if boot is not None and filed.due is not None and filed.due <= now:
                actions += self.decide(boot, now)
            elif boot is None and filed.strange_at is not None and filed.strange_at <= now:
                filed.due = None
                if self._filing.strange(filed) and filed.request.waits:
                    detail = f"certificate request {filed.request.name!r} is of a boot that is not ours: left alone"
                    actions.append(Tell(filed.names.boot, "", Stage.FAILED, now, detail))
        return actions

    def _decide(self, boot: Boot, request: Request, now: float) -> list[Action]:
        people_are_told = boot.denials < MOST_TOLD
        if request.signer != KUBELET_SIGNER:
            # To deny it, we would need the right to approve it. Nobody does by himself.
            boot.denials += 1
            detail = f"its token asked {request.signer!r} for a certificate, which we leave alone"
            return [*boot.tell(Stage.FAILED, now, detail)] if people_are_told else []
        try:
            boot.key = key_to_approve(boot, request, now)
        except Unfit as unfit:
            boot.denials += 1
            denied = Deny(request, boot.id, boot.node, str(unfit))
            detail = f"certificate request {request.name!r} is denied: {unfit}"
            return [denied, *(boot.tell(Stage.FAILED, now, detail) if people_are_told else [])]
        return [Approve(request, boot.id, boot.node)]

    def _was_approved(self, boot: Boot, request: Request, now: float) -> list[Action]:
        """Note what was approved, by us in this life or another, or by somebody else."""
        if boot.is_over or request.signer != KUBELET_SIGNER or not has_groups_of(request, boot.id, boot.node):
            return []
        try:
            key = public_key(request.pem, boot.node)
        except Unfit:
            return []
        boot.key = boot.key or key
        user = USERNAME.fullmatch(request.username)
        if not boot.token_id and user is not None:
            boot.token_id, boot.made, boot.expires = user[1], now, now + self._ttl_s
        if boot.phase >= Phase.APPROVED:
            return []
        if boot.phase < Phase.MINTING:
            boot.looked = None  # its token was made before this controller began, and the Node may be its own by now
        boot.enter(Phase.APPROVED, now)
        return [*boot.tell(Stage.APPROVED, now, f"certificate request {request.name!r} is approved")]
