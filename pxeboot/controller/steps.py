"""What is to be done next for a boot, as things are. Pure; times are monotonic seconds."""

from dataclasses import dataclass

from pxeboot.controller.boot import ApplyOwned, Boot, Look, Mint, Phase, Work
from pxeboot.controller.token import MACHINES_GROUP, boot_group

LAST_BEAT_S = 5.0
"""A heartbeat that comes so soon after the boot began was still on its way: the machine was reset after it."""
BEAT_S = 12.0
"""A kubelet that lives is seen to within this time: it beats every 10 s (a quarter of its lease of 40 s)."""
UNASKED_S = 1800.0
"""A boot that has not asked for its token by then is over."""
ATTENTION_S = 60.0
"""So long after it was asked for the last time, a token is still tried to be made."""
READY_S = 3600.0
"""So long a machine may take from its certificate to Ready before nobody looks any more."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done before `due`; None: not unless something happens."""

    due: float | None = None


@dataclass(frozen=True, slots=True)
class End:
    """Nothing is granted to the boot any more; `failed`: people are told."""

    reason: str
    failed: bool = False


def next_step(boot: Boot, now: float, ttl_s: float, look_s: float) -> Work | Wait | End:
    """Return the next step of a boot that nothing is under way for, and that is not over.

    `ttl_s` is the life of a token, `look_s` how often to look at a Node that is about to be Ready.
    """
    if now < boot.retry:
        return Wait(boot.retry)
    attended = boot.asked is not None and now - boot.asked < ATTENTION_S
    match boot.phase:
        case Phase.BEGUN | Phase.CLEARING if boot.looked is None and (attended or not boot.failures):
            return _at(boot.begun + LAST_BEAT_S, now, Look(boot.id, boot.node, beat=True))
        case Phase.CLEARING if attended:
            # A second look, late enough for a kubelet that lives to have beaten. One that has just registered its Node
            # may have been too early for its first beat, and tries again as late as for any other.
            lives = boot.beat is not None or (boot.before is not None and boot.before.ready)
            due = (boot.looked or 0.0) + (BEAT_S if lives else 0.0)
            return _at(due, now, Look(boot.id, boot.node, beat=True))
        case Phase.MINTING if attended and boot.token is not None:
            groups = (MACHINES_GROUP, boot_group(boot.id, boot.node))
            return Mint(boot.id, boot.node, boot.token, groups, ttl_s)
        case Phase.BEGUN | Phase.CLEARING | Phase.MINTING:
            return _at(boot.begun + UNASKED_S, now, End("it did not ask for its token"))
        case Phase.GIVEN if boot.deleted:  # its time was over when this controller began
            return _at(boot.changed + UNASKED_S, now, End("it asked for no certificate in time", failed=True))
        case Phase.APPROVED | Phase.REGISTERED:
            return _next_to_ready(boot, now, look_s)
        case _:
            return Wait()


def _next_to_ready(boot: Boot, now: float, look_s: float) -> Work | Wait | End:
    if boot.ready and boot.applied:
        return End("its Node is Ready")
    if now >= boot.changed + READY_S:
        what = "has not its labels and taints" if boot.ready else "is not Ready"
        why = boot.trouble or "the kubelet's log on the machine may say why"
        return End(f"its Node {what} after {READY_S / 60:.0f} minutes, and is left alone now: {why}", failed=True)
    if boot.phase is Phase.REGISTERED and not boot.applied:
        return ApplyOwned(boot.id, boot.node, boot.labels, boot.taints)
    return _at(boot.seen + look_s, now, Look(boot.id, boot.node, beat=False))


def _at(due: float, now: float, step: Work | End) -> Work | Wait | End:
    return step if now >= due else Wait(due)
