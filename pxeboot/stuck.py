"""How a machine does: on its way, waiting, up, or stuck, and what people should look at then. Pure.

One judgment for all who show it: the web page, `pxeboot status`, the metrics.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from config.clusters import Cluster
from config.events import Stage
from config.model import Farm
from pxeboot.timeline import ORDER, Boot, Machine, Past

STRANGER_S = 3600.0
"""A machine that the farm does not list may have tried the network only in passing: it is no trouble after so long."""
AGAIN_S = 1800.0
"""Three boots within this time, none of which got the machine up, are a loop."""
_LOOP = 3


class State(StrEnum):
    """How a machine does."""

    STUCK = "stuck"
    """It goes on only if somebody helps it."""
    WAITING = "waiting"
    """It was told to wait for its turn."""
    BOOTING = "booting"
    """It is on its way."""
    UP = "up"
    """It is where it is meant to get."""
    QUIET = "quiet"
    """It has not booted since this server started, or is none of ours."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a machine does, and why."""

    state: State
    since_s: float
    """Since when it is at that stage, in seconds since 1970; 0 if that is not known."""
    words: str
    """What it waits for; of one that is stuck, what does not happen."""
    until_s: float | None = None
    """When to judge again if nothing happens before; None: never."""
    look: str = ""
    """Of one that is stuck: what people should look at. What stands between backticks is to be typed."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """What people should know of one stage."""

    said: str
    """The stage, in words."""
    waits_for: str = ""
    """What comes next."""
    silent_s: float = 0.0
    """After so long without a word something is wrong."""
    trouble: str = ""
    """What is wrong then."""
    look: str = ""
    """And what to look at."""
    whole_s: float | None = None
    """After so long at this stage something is wrong, whatever it says."""


STORY: Mapping[Stage, Chapter] = {
    Stage.DISCOVER: Chapter(
        "asks for an address", "it to take our offer", 40,
        "It asked for an address and took none of ours.",
        "Another DHCP server, or a switch that loses the answer? `pxeboot probe` on that network shows who answers.",
    ),
    Stage.ADDRESS: Chapter(
        "has an address", "it to fetch its boot program", 45,
        "It has an address and did not fetch its boot program.",
        "TFTP blocked by a firewall, changed by address translation, or cut by a smaller MTU? `pxeboot probe` on "
        "that network shows it.",
    ),
    Stage.LOADER: Chapter(
        "GRUB is loaded", "GRUB to ask for its menu", 60,
        "GRUB was fetched and does not ask for its menu.",
        "Does Secure Boot refuse it, or is it the wrong one for this firmware? Look at the machine's screen.",
    ),
    Stage.MENU: Chapter(
        "menu is read", "the kernel to be fetched", 150,
        "It has its menu and did not fetch the kernel.",
        "GRUB shows on the machine's screen what it could not do.",
    ),
    Stage.DISK: Chapter("boots from its disk"),
    Stage.KERNEL: Chapter(
        "kernel is loaded", "the initrd to be fetched", 240,
        "It has the kernel and not the initrd.",
        "Is the network slow, or the machine's memory full? Look at its screen.",
    ),
    Stage.INITRD: Chapter(
        "initrd is loaded", "the kernel to start", 150,
        "Its kernel should have started and is silent.",
        "No driver for its network card in the initrd, or a panic? Look at its screen; with a netconsole port in "
        "`machine_logs` the kernel's messages come here.",
    ),
    Stage.NETWORK: Chapter(
        "initramfs runs", "it to fetch its root", 90,
        "Its initramfs runs and does not fetch the root.", "Look at its screen.",
    ),
    Stage.WAITING: Chapter(
        "waits for its turn", "other downloads to end", 180,
        "It was told to ask again for its root, and did not.", "Was it switched off?",
    ),
    Stage.FETCH: Chapter(
        "fetches its root", "the root to be complete", 60,
        "Its root does not come any further.", "Is the network down at this machine, or the machine off?",
    ),
    Stage.VERIFIED: Chapter(
        "root is checked", "the root to be mounted", 60,
        "Its root is there and is not mounted.", "Look at its screen.",
    ),
    Stage.ROOT: Chapter(
        "root is mounted", "the system to be prepared", 90,
        "Its root is mounted and was not prepared.", "Look at its screen.",
    ),
    Stage.PREPARED: Chapter(
        "system starts", "the system to be up", 300,
        "Its system started and is not up.",
        "A service that hangs? `systemctl list-jobs` on its console says which.",
    ),
    Stage.SYSTEM: Chapter(
        "system is up", "it to join its cluster", 300,
        "Its system is up and it does not join.",
        "Has its lts.conf a join command? `journalctl -u pxeboot-rcfile` on the machine says what was run.",
    ),
    Stage.TOKEN: Chapter(
        "token is made", "it to fetch its join command", 120,
        "A token was made for it, and it did not fetch its join command.", "Does it still reach this server?",
    ),
    Stage.FETCHED: Chapter(
        "has its join command", "it to start joining", 180,
        "It has its join command and does not begin to join.",
        "`journalctl -u pxeboot-rcfile` on the machine says why.",
    ),
    Stage.JOINING: Chapter(
        "joins its cluster", "the join to end", 600,
        "It tries to join and does not succeed.", "`journalctl -u kubelet` on the machine says why.",
        whole_s=1200,
    ),
    Stage.APPROVED: Chapter(
        "certificate is approved", "its Node to appear", 180,
        "Its certificate is approved and no Node appears.", "`journalctl -u kubelet` on the machine says why.",
    ),
    Stage.REGISTERED: Chapter(
        "Node is there", "its Node to be Ready", 600,
        "Its Node is there and not Ready.",
        "A network plugin that is missing? `kubectl describe node` says what lacks.",
    ),
    Stage.JOINED: Chapter(
        "has joined", "its Node to be Ready", 600,
        "It has joined and its Node is not Ready.", "`kubectl describe node` says what lacks.",
    ),
    Stage.READY: Chapter("Node is Ready"),
    Stage.FAILED: Chapter("failed"),
    Stage.REFUSED: Chapter("was refused"),
}  # fmt: skip
"""Every stage. The times are generous: firmware and slow disks take long, and a false alarm is soon ignored."""

_BEFORE_MENU = ORDER.index(Stage.MENU)


def goal_of(cluster: Cluster | None) -> Stage:
    """Return the stage that a machine of this cluster is up at. Only a token for each boot tells us of its Node."""
    if cluster is None:
        return Stage.SYSTEM
    return Stage.READY if cluster.minted == "boot" else Stage.JOINED


class Goals:
    """What the machines of one farm are meant to get to."""

    def __init__(self, farm: Farm) -> None:
        """Index `farm`."""
        self.farm = farm
        of_pool = {
            pool.name: goal_of(farm.clusters.get(pool.cluster) if pool.cluster is not None else None)
            for pool in farm.pools
        }
        self._of_pool = of_pool
        self._of_node = {node.name: of_pool[pool.name] for pool in farm.pools for node in pool.nodes}

    def judge(self, machine: Machine, now_s: float) -> Verdict:
        """Return how a machine does, which the farm may list or not."""
        goal = self._of_node.get(machine.name)
        if goal is not None:
            return judge(machine, goal, now_s)
        return judge(machine, self._of_pool.get(machine.pool, Stage.SYSTEM), now_s, listed=False)


def is_up(boot: Boot | Past, goal: Stage) -> bool:
    """Return whether a boot got the machine up, or sent it to its own disk."""
    reached = boot.past.reached if isinstance(boot, Boot) else boot.reached
    return boot.stage is Stage.DISK or (reached is not None and ORDER.index(reached) >= ORDER.index(goal))


def judge(machine: Machine, goal: Stage, now_s: float, *, listed: bool = True) -> Verdict:
    """Return how a machine does that is up at the stage `goal`. `listed`: whether the farm's file has it."""
    boot = machine.boots[-1] if machine.boots else None
    newest = boot.newest if boot is not None else None
    if boot is None or newest is None:
        return Verdict(State.QUIET, 0.0, "")
    verdict = _judge(boot, goal, now_s)
    if verdict.state is State.STUCK and not listed:
        if newest.last_s + STRANGER_S <= now_s:
            return Verdict(State.QUIET, newest.first_s, "tried the network, and is not in the farm's file")
        return replace(verdict, until_s=newest.last_s + STRANGER_S)
    if verdict.state in (State.BOOTING, State.WAITING) and (loop := _loop(machine, goal, now_s)) is not None:
        # Once it is silent for too long that is said of it instead.
        return replace(loop, until_s=min(filter(None, (loop.until_s, verdict.until_s))))
    return verdict


def _judge(boot: Boot, goal: Stage, now_s: float) -> Verdict:
    newest = boot.newest
    if newest is None:
        return Verdict(State.QUIET, 0.0, "")
    if newest.stage is Stage.FAILED:
        return Verdict(State.STUCK, newest.first_s, newest.detail)
    if newest.stage is Stage.DISK:
        return Verdict(State.UP, newest.first_s, "")
    if is_up(boot, goal):
        arrived = [step.first_s for step in boot.steps if ORDER.index(step.stage) >= ORDER.index(goal)]
        return Verdict(State.UP, min(arrived), "")
    chapter = STORY[newest.stage]
    since_s, heard_s = newest.first_s, newest.last_s
    if 0 <= boot.reached < _BEFORE_MENU:  # firmware asks again and again, and comes no further
        since_s = heard_s = next(step.first_s for step in boot.steps if ORDER.index(step.stage) == boot.reached)
        chapter = STORY[ORDER[boot.reached]]
    until_s = heard_s + chapter.silent_s
    if chapter.whole_s is not None:
        until_s = min(until_s, since_s + chapter.whole_s)
    if until_s > now_s:
        state = State.WAITING if newest.stage is Stage.WAITING else State.BOOTING
        return Verdict(state, since_s, f"waits for {chapter.waits_for}", until_s)
    if boot.reached <= ORDER.index(Stage.ADDRESS) and not _ours_to_follow(boot):
        return Verdict(State.QUIET, since_s, "has an address; what it boots is not seen from here")
    return Verdict(State.STUCK, since_s, chapter.trouble, look=chapter.look)


def _ours_to_follow(boot: Boot) -> bool:
    """Return whether what comes after the address would be seen: not of a boot file of somebody else.

    A boot whose beginning was not seen may be a machine that only renews its address.
    """
    if boot.steps[0].stage is Stage.ADDRESS:
        return False
    told = next((step.detail for step in reversed(boot.steps) if step.stage is Stage.ADDRESS), None)
    return told is None or "/core." in told


def _loop(machine: Machine, goal: Stage, now_s: float) -> Verdict | None:
    """Return that a machine starts again and again, if it does."""
    lately = list(machine.boots)[-_LOOP:]
    began_s = lately[0].started_s
    if len(lately) < _LOOP or began_s + AGAIN_S <= now_s or any(is_up(boot, goal) for boot in lately):
        return None
    reached = max(boot.reached for boot in lately)
    if reached < 0:
        return None
    words = f"It starts again and again, and comes no further than “{STORY[ORDER[reached]].said}”."
    look = "Its screen, or its messages on its page, say why."
    return Verdict(State.STUCK, began_s, words, began_s + AGAIN_S, look)
