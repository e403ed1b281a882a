"""A token for each boot of one cluster's machines: (what the daemon and the API say, now) → actions. Pure.

The daemon tells that a boot began, and asks for its token when the machine does. Then: no other machine may live
under its name; its old Node is set to Unknown, so that kubeadm goes on and the Node object stays; the token is made,
from a seed of the daemon's, so that making it twice makes one; its machine's certificate request is approved, one
public key and no other; and when its Node is Ready, or its time is over, the token is deleted.

Whoever carries actions out tells what came of each. Times are monotonic seconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from config.events import Stage
from pxeboot.controller.boot import (
    Action,
    Approve,
    Boot,
    Give,
    LookInfo,
    Mint,
    Phase,
    Refuse,
    SetUnknown,
    Tell,
    TokenState,
    Work,
)
from pxeboot.controller.doom import Doom
from pxeboot.controller.join import Discovery
from pxeboot.controller.judge import Judge
from pxeboot.controller.pause import pause_s
from pxeboot.controller.signing import Found, Nothing, Unsigned, find_join
from pxeboot.controller.steps import End, Wait, next_step
from pxeboot.controller.token import Token
from pxeboot.joining.talk import BootBegun, TokenAsked
from pxeboot.kube.values import Heartbeat, Node, Request

KEPT_S = 7200.0
"""So long a boot that is over is remembered, to deny what still comes with its token: longer than a token lives."""
MOST_BOOTS = 20_000
MOST_OF_NODE = 4
"""A machine that asks for its menu again and again, or somebody in its name, displaces its own boots only."""
LOOKS_PER_S = 40.0
"""How many Nodes are looked at in a second, while their machines are about to be Ready."""
SWEEP_S = 60.0


@dataclass(frozen=True, slots=True)
class Terms:
    """How one cluster's boots are treated. Seconds."""

    ttl_s: float
    """A token's life."""
    api_server: str | None = None
    """HOST:PORT that machines join at, in place of what the cluster says."""
    signer_wait_s: float = 10.0
    """How long cluster-info may stay unsigned for a new token before the kubeconfig's own CA is taken."""
    signer_poll_s: float = 0.3
    """How often to look meanwhile."""


class Boots:
    """The boots of one cluster's machines."""

    def __init__(self, terms: Terms) -> None:
        """Begin with none; the daemon tells again which there are."""
        self._terms = terms
        self._boots: dict[str, Boot] = {}
        self._of_node: dict[str, list[Boot]] = {}  # the newest last
        self._active: dict[str, Boot] = {}
        self._polled: set[str] = set()
        self._doom = Doom()
        self._ready: dict[str, list[Tell]] = {}
        """What is told once the token is deleted: a daemon that has heard it tells a new controller no more of it."""
        self._judge = Judge(self._boots, terms.ttl_s)
        self._info_due: float | None = 0.0
        self._info_failures = 0
        self._swept = 0.0

    # What the daemon says

    def begun(self, node: str, said: BootBegun, now: float, left_s: float = 0.0) -> list[Action]:
        """A machine was told what to boot, or we are told of it again: then what it reached is told again.

        `left_s` is how long the token lives that it was given before, as far as the daemon knows.
        """
        known = self._boots.get(said.boot)
        if known is not None:
            known.labels, known.taints = said.labels, said.taints
            return [replace(tell, again=True) for tell in known.told.values()]
        boot = Boot(said.boot, node, said.labels, said.taints, begun=now, changed=now)
        if said.token_id:
            boot.enter(Phase.GIVEN, now)
            # Where its time is over nothing more is approved; whether it becomes Ready is followed all the same.
            boot.token_id, boot.made, boot.deleted = said.token_id, now, left_s <= 0
            boot.expires = now + (left_s if 0 < left_s <= self._terms.ttl_s else self._terms.ttl_s)
        of_node = self._of_node.setdefault(node, [])
        actions = self._end(of_node[-1], "a newer boot of its machine began", now) if of_node else []
        of_node.append(boot)
        self._boots[boot.id] = self._active[boot.id] = boot
        for idle in [old for old in of_node[:-MOST_OF_NODE] if not old.busy]:
            self._forget(idle)  # its token is gone, or doomed; what still comes with it is approved by nobody
        if len(self._boots) > MOST_BOOTS:
            oldest = next(iter(self._boots.values()))
            actions += self._end(oldest, "too many boots began after it", now)
            self._forget(oldest)
        return actions + self._judge.known(boot, now) + self._go(boot, now)

    def ended(self, node: str, boot_id: str, now: float) -> list[Action]:
        """The machine of a boot was told to boot something that does not join here."""
        boot = self._boots.get(boot_id)
        return [] if boot is None or boot.node != node else self._end(boot, "its machine boots something else", now)

    def asked(self, node: str, said: TokenAsked, now: float) -> list[Action]:
        """The machine of a boot asks for its token. It is answered with `Give` or `Refuse`, now or later."""
        boot = self._boots.get(said.boot)
        if boot is None or boot.node != node:
            return [Refuse(said.boot, node, "this boot was not told of yet", 1.0)]
        token = Token.derived(said.seed)
        if boot.is_over:
            return [Refuse(boot.id, node, f"this boot is over: {boot.over}")]
        if (boot.token is not None and boot.token != token) or boot.token_id not in ("", token.id):
            return [Refuse(boot.id, node, "another token was asked for this boot before")]
        if boot.phase >= Phase.APPROVED:
            return [Refuse(boot.id, node, "the certificate of this boot is approved already")]
        boot.token, boot.asked = token, now
        if boot.join is not None:
            return [Give(boot.id, node, boot.join, boot.expires, boot.doubt)]
        boot.waits = True
        if boot.phase in (Phase.BEGUN, Phase.GIVEN):
            boot.enter(Phase.CLEARING if boot.phase is Phase.BEGUN else Phase.MINTING, now)
        return self._go(boot, now) + self._look_at_info(now)

    def revoke(self, token_id: str, now: float) -> list[Action] | None:
        """Delete a token, and grant nothing more to its boot; None: there is no such token."""
        boot = next((boot for boot in self._active.values() if boot.token_id == token_id), None)
        if boot is not None and not boot.deleted:
            return self._fail(boot, f"its token {token_id} was revoked", now)
        return [] if token_id in self._doom else None

    # What came of looking, and of what was done

    def looked(self, boot_id: str, node: Node | None, beat: Heartbeat | None, now: float) -> list[Action]:
        """The Node was looked at, and its heartbeat if that was wanted."""
        boot = self._worked(boot_id)
        if boot is None:
            return []
        boot.seen = now
        version = beat.resource_version if beat else None
        match boot.phase:
            case Phase.BEGUN | Phase.CLEARING if boot.looked is None:
                boot.looked, boot.before, boot.beat = now, node, version
            case Phase.CLEARING if version is not None and version != boot.beat:
                alive = "another machine lives under its name: the kubelet there has beaten since this boot began"
                return self._fail(boot, alive, now)
            case Phase.CLEARING:
                boot.before = node
                if node is not None and node.ready:
                    return self._do(boot, SetUnknown(boot.id, boot.node, node), now)
                boot.enter(Phase.MINTING, now)
            case Phase.APPROVED | Phase.REGISTERED if node is not None and boot.belongs(node):
                return self._joined(boot, node, now)
            case _:
                pass
        return self._go(boot, now)

    def cleared(self, boot_id: str, now: float) -> list[Action]:
        """The Node is Unknown, or gone."""
        boot = self._worked(boot_id)
        if boot is None:
            return []
        boot.enter(Phase.MINTING, now)
        return self._go(boot, now)

    def minted(self, boot_id: str, now: float) -> list[Action]:
        """The token is there."""
        boot = self._boots.get(boot_id)
        if boot is not None and boot.is_over and boot.token_id:
            return self._delete(boot, boot.over)  # it ended while its token was being made
        boot = self._worked(boot_id)
        if boot is None:
            return []
        boot.made = now
        told = boot.tell(Stage.TOKEN, now, f"token {boot.token_id} was made for it")
        boot.enter(max(boot.phase, Phase.SIGNING), now)
        return [*told, *self._go(boot, now), *self._look_at_info(now)]

    def applied(self, boot_id: str, now: float) -> list[Action]:
        """The Node carries what the configuration wants."""
        boot = self._worked(boot_id)
        if boot is None:
            return []
        boot.applied = True
        return self._go(boot, now)

    def failed(self, boot_id: str, reason: str, now: float, after_s: float | None = None) -> list[Action]:
        """Some work for a boot failed; it is tried again, not before `after_s`."""
        boot = self._boots.get(boot_id)
        if boot is None or not boot.busy:
            return []
        boot.busy = False
        if boot.is_over:
            # A token may have been made all the same.
            return self._delete(boot, boot.over) if boot.token_id and not boot.ready else []
        wait_s = pause_s(boot.failures, after_s)
        boot.failures, boot.trouble, boot.retry = boot.failures + 1, reason, now + wait_s
        return [*self._refuse(boot, reason, wait_s), *self._go(boot, now)]

    def informed(self, data: Mapping[str, str] | None, own: Discovery | str, now: float) -> list[Action]:
        """The data of cluster-info, None if there is none, and what the controller's own kubeconfig says."""
        self._info_failures, self._info_due = 0, now + self._terms.signer_poll_s
        return [action for boot in self._signing() for action in self._discovered(boot, data, own, now)]

    def info_failed(self, reason: str, now: float, after_s: float | None) -> list[Action]:
        """cluster-info could not be looked at."""
        wait_s = pause_s(self._info_failures, after_s)
        self._info_failures, self._info_due = self._info_failures + 1, now + wait_s
        return [action for boot in self._signing() for action in self._refuse(boot, reason, wait_s)]

    def deleted(self, token_id: str) -> Sequence[Action]:
        """The token is gone."""
        self._doom.deleted(token_id)
        return self._ready.pop(token_id, [])

    def delete_failed(self, token_id: str, now: float, after_s: float | None) -> Sequence[Action]:
        """It could not be deleted; that is tried again."""
        self._doom.failed(token_id, now, after_s)
        return self._ready.pop(token_id, [])

    # Certificate requests

    def request_seen(self, request: Request, now: float) -> list[Action]:
        """A certificate request is there, or changed."""
        boot, actions = self._judge.seen(request, now)
        return actions if boot is None else actions + self._go(boot, now)

    def request_approved(self, request: Request, now: float) -> list[Action]:
        """We approved a certificate request."""
        return self.request_seen(replace(request, approved=True), now)

    def request_gone(self, uid: str) -> None:
        """A certificate request is there no more, or was denied."""
        self._judge.gone(uid)

    def stands(self, approval: Approve, now: float) -> bool:
        """Whether what was to be approved still is, once its turn to be sent has come."""
        boot = self._boots.get(approval.boot)
        return boot is not None and not boot.is_over and not boot.deleted and now < boot.expires

    def synced(self, now: float) -> list[Action]:
        """All requests that there are have been seen: from now on they are decided."""
        return self._judge.synced(now)

    def decision_failed(self, uid: str, now: float, after_s: float | None) -> None:
        """It could be neither approved nor denied; that is tried again."""
        self._judge.failed(uid, now, after_s)

    # Time

    @property
    def deadline(self) -> float | None:
        """When `expire` is due; None: never, unless something happens."""
        dues = [boot.due for boot in self._active.values()]
        dues += [self._doom.deadline, self._judge.deadline]
        if self._signing():
            dues.append(self._info_due)
        return min((due for due in dues if due is not None), default=None)

    def expire(self, now: float) -> list[Action]:
        """Do what time demands."""
        actions: list[Action] = []
        for boot in [boot for boot in self._active.values() if boot.due is not None and boot.due <= now]:
            actions += self._go(boot, now)
        actions += self._doom.expire(now) + self._judge.expire(now) + self._look_at_info(now)
        if now - self._swept > SWEEP_S:
            self._swept = now
            for boot in [boot for boot in self._boots.values() if boot.is_over and now - boot.changed > KEPT_S]:
                self._forget(boot)
        return actions

    # For people

    def tokens(self) -> Iterator[TokenState]:
        """The tokens that are there, as far as we know."""
        yield from (boot.token_state for boot in self._active.values() if boot.token_id and not boot.deleted)
        yield from self._doom

    def obstacle(self, boot_id: str) -> str:
        """Say what a token that was asked for waits for."""
        boot = self._boots.get(boot_id)
        return "this boot was not told of yet" if boot is None else boot.obstacle

    def counts(self) -> dict[str, int]:
        """How many boots are in which phase, those that are over left out."""
        phases = [boot.phase.name.lower() for boot in self._active.values()]
        return {phase: phases.count(phase) for phase in dict.fromkeys(phases)}

    # Deciding

    def _go(self, boot: Boot, now: float) -> list[Action]:
        """Return what is to be done for a boot now, and set when it is due next."""
        if boot.is_over:
            return []
        if boot.phase >= Phase.APPROVED:
            self._polled.add(boot.id)
        if boot.token_id and not boot.deleted and now >= boot.expires:
            if boot.phase < Phase.APPROVED:
                return self._fail(boot, "the time of its token was over before it asked for a certificate", now)
            return self._delete(boot, "its time is over") + self._go(boot, now)
        if boot.busy:
            self._wake(boot, None)
            return []
        match next_step(boot, now, self._terms.ttl_s, max(1.0, len(self._polled) / LOOKS_PER_S)):
            case End(reason, failed):
                return (self._fail if failed else self._end)(boot, reason, now)
            case Wait(due):
                self._wake(boot, due)
                return []
            case work:
                return self._do(boot, work, now)

    def _do(self, boot: Boot, work: Work, now: float) -> list[Action]:
        boot.busy = True
        if isinstance(work, Mint):
            boot.token_id, boot.expires, boot.deleted = work.token.id, now + work.ttl_s, False
        self._wake(boot, None)
        return [work]

    def _wake(self, boot: Boot, due: float | None) -> None:
        """Set when a boot is due: when its token's time is over, at the latest."""
        ends = boot.expires if boot.token_id and not boot.deleted else None
        boot.due = min((end for end in (due, ends) if end is not None), default=None)

    def _worked(self, boot_id: str) -> Boot | None:
        """Note that work for a boot succeeded; None if it is over."""
        boot = self._boots.get(boot_id)
        if boot is None:
            return None
        boot.busy, boot.failures, boot.retry, boot.trouble = False, 0, 0.0, ""
        return None if boot.is_over else boot

    def _joined(self, boot: Boot, node: Node, now: float) -> list[Action]:
        """The Node is that of this boot."""
        actions: list[Action] = []
        if boot.phase is Phase.APPROVED:
            boot.enter(Phase.REGISTERED, now)
            again = boot.before is not None and boot.before.uid == node.uid
            actions += boot.tell(Stage.REGISTERED, now, "its Node is " + ("its own again" if again else "there"))
        if node.ready and not boot.ready:
            boot.ready = True
            ready = boot.tell(Stage.READY, now, "its Node is Ready")
            if boot.deleted:
                return [*actions, *ready, *self._go(boot, now)]
            actions += self._delete(boot, "its Node is Ready")
            self._ready[boot.token_id] = ready
        return actions + self._go(boot, now)

    def _discovered(
        self, boot: Boot, data: Mapping[str, str] | None, own: Discovery | str, now: float
    ) -> list[Action]:
        """Give a boot its command if cluster-info is signed with its token, or was not for long."""
        assert boot.token is not None  # it is SIGNING, so it was asked for
        may_wait = now - boot.changed < self._terms.signer_wait_s
        match find_join(boot.token, data, own, api_server=self._terms.api_server, may_wait=may_wait):
            case Unsigned():
                return []
            case Nothing(reason):
                return self._refuse(boot, reason, 5.0)
            case Found(join, doubt):
                boot.join, boot.doubt = join, doubt
        boot.enter(Phase.GIVEN, now)
        give = [Give(boot.id, boot.node, join, boot.expires, doubt)] if boot.waits else []
        boot.waits = False
        return [*give, *self._go(boot, now)]

    def _signing(self) -> list[Boot]:
        """The boots whose tokens cluster-info is to be signed with, and that somebody wants."""
        return [boot for boot in self._active.values() if boot.phase is Phase.SIGNING and boot.waits]

    def _look_at_info(self, now: float) -> list[Action]:
        if self._info_due is None or now < self._info_due or not self._signing():
            return []
        self._info_due = None
        return [LookInfo()]

    def _refuse(self, boot: Boot, reason: str, after_s: float | None) -> list[Action]:
        """Answer who waits, if anybody does."""
        waits, boot.waits = boot.waits, False
        return [Refuse(boot.id, boot.node, reason, after_s)] if waits else []

    def _fail(self, boot: Boot, reason: str, now: float) -> list[Action]:
        """End a boot, and say so."""
        return [*boot.tell(Stage.FAILED, now, reason), *self._end(boot, reason, now)]

    def _end(self, boot: Boot, reason: str, now: float) -> list[Action]:
        """Grant nothing more to a boot: its token goes, and what still comes with it is denied."""
        if boot.is_over:
            return []
        actions: list[Action] = [*self._refuse(boot, f"this boot is over: {reason}", None)]
        if boot.token_id and not boot.deleted:
            actions += self._delete(boot, reason)
        boot.enter(Phase.OVER, now)
        boot.over, boot.due, boot.token, boot.join = reason, None, None, None
        self._active.pop(boot.id, None)
        self._polled.discard(boot.id)
        return actions + self._judge.decide(boot, now)

    def _delete(self, boot: Boot, why: str) -> list[Action]:
        boot.deleted = True
        return self._doom.add(boot.token_state, why)

    def _forget(self, boot: Boot) -> None:
        self._boots.pop(boot.id, None)
        self._of_node[boot.node].remove(boot)
        if not self._of_node[boot.node]:
            del self._of_node[boot.node]
