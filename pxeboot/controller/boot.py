"""One boot of one machine, as the controller knows it: values that `pxeboot.controller.boots` decides about. Pure.

Times are monotonic seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from config.events import Stage
from config.model import Taint
from pxeboot.controller.join import JoinCommand
from pxeboot.controller.token import Token
from pxeboot.kube.values import Node, Request


class Phase(IntEnum):
    """How far a boot is."""

    BEGUN = 1
    """The machine has its menu."""
    CLEARING = 2
    """It asks for a token, and we make sure that no other machine lives under its name."""
    MINTING = 3
    """Its token is being made."""
    SIGNING = 4
    """Its token is made, and cluster-info is about to be signed with it."""
    GIVEN = 5
    """It has its join command."""
    APPROVED = 6
    """Its certificate request is approved."""
    REGISTERED = 7
    """Its Node belongs to this boot."""
    OVER = 8
    """Nothing is granted to it any more."""


STATES = {
    Phase.MINTING: "is being made",
    Phase.SIGNING: "is being made",
    Phase.GIVEN: "waits for its machine",
    Phase.APPROVED: "certificate approved",
    Phase.REGISTERED: "Node registered",
}
"""What people are told of the token of a boot."""


@dataclass(frozen=True, slots=True)
class Look:
    """Look at the Node, and at its heartbeat if `beat`; `Boots.looked` is told."""

    boot: str
    node: str
    beat: bool


@dataclass(frozen=True, slots=True)
class SetUnknown:
    """Say of the Node, which its machine has left, that nobody knows how it is; `Boots.cleared` is told.

    `was` is the Node as it was looked at; if it has changed since, this fails, and it is looked at again.
    """

    boot: str
    node: str
    was: Node


@dataclass(frozen=True, slots=True)
class Mint:
    """Make the token, for `ttl_s` seconds from now; `Boots.minted` is told.

    One that is there already, made before the controller was killed, is made anew: nobody knows until when it lives.
    """

    boot: str
    node: str
    token: Token
    groups: tuple[str, ...]
    ttl_s: float


@dataclass(frozen=True, slots=True)
class LookInfo:
    """Look at cluster-info; `Boots.informed` is told."""


@dataclass(frozen=True, slots=True)
class Give:
    """Answer who asks for the boot's token. `doubt` says why the CA is not that of a signed cluster-info."""

    boot: str
    node: str
    join: JoinCommand
    expires: float
    doubt: str | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer who asks for the boot's token with the reason why there is none: for good, unless `after_s` is given."""

    boot: str
    node: str
    reason: str
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Approve:
    """Approve the request; `Boots.request_seen` is told."""

    request: Request
    boot: str
    node: str


@dataclass(frozen=True, slots=True)
class Deny:
    """Deny the request; `Boots.request_gone` is told."""

    request: Request
    boot: str
    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class ApplyOwned:
    """Have the Node carry what the configuration wants; `Boots.applied` is told."""

    boot: str
    node: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]


@dataclass(frozen=True, slots=True)
class DeleteToken:
    """Delete the token; `Boots.deleted` is told."""

    token_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the daemon, and people, what happened at `at`; `again` if it was told before."""

    boot: str
    node: str
    stage: Stage
    at: float
    detail: str
    again: bool = False


Work = Look | SetUnknown | Mint | ApplyOwned
"""What is done for one boot, one after the other. `Boots.failed` is told when it fails."""
Action = Work | LookInfo | Give | Refuse | Approve | Deny | DeleteToken | Tell


@dataclass(frozen=True, slots=True)
class TokenState:
    """A token that is there, or is being made or deleted, for people."""

    token_id: str
    node: str
    boot: str
    made: float
    expires: float
    state: str


@dataclass(slots=True, eq=False)
class Boot:
    """What is known of one boot."""

    id: str
    node: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    begun: float
    phase: Phase = Phase.BEGUN
    changed: float = 0.0
    """When `phase` was entered."""
    over: str = ""
    """Why it is."""

    looked: float | None = None
    """When the Node was looked at before any token was given: what it then was is `before`."""
    before: Node | None = None
    beat: str | None = None
    """The version of the heartbeat then; None: there was none."""
    seen: float = 0.0
    """When the Node was looked at last."""

    asked: float | None = None
    """When the token was asked for last."""
    waits: bool = False
    """Whether somebody waits for the answer."""
    token: Token | None = None
    token_id: str = ""
    """"" before a token is made for it."""
    made: float = 0.0
    expires: float = 0.0
    deleted: bool = False
    """Whether the token is to be deleted, or is."""
    join: JoinCommand | None = None
    doubt: str | None = None

    key: str | None = None
    """The one public key that is approved for it."""
    denials: int = 0
    applied: bool = False
    """Whether its Node carries what the configuration wants."""
    ready: bool = False
    """Whether its Node was seen to be Ready."""
    told: dict[Stage, Tell] = field(default_factory=dict)

    busy: bool = False
    """Whether some `Work` for it is under way."""
    retry: float = 0.0
    """No work before that, since the last has failed."""
    due: float | None = None
    """When there is something to do; None: once something happens."""
    failures: int = 0
    trouble: str = ""
    """What failed last, and has not worked since."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is granted to it any more."""
        return self.phase is Phase.OVER

    @property
    def token_state(self) -> TokenState:
        """Its token, for people."""
        return TokenState(
            *(self.token_id, self.node, self.id, self.made, self.expires), state=STATES.get(self.phase, "")
        )

    @property
    def obstacle(self) -> str:
        """What a token that was asked for waits for."""
        if self.trouble:
            return self.trouble
        if self.phase <= Phase.CLEARING:
            return "its old Node is watched for a sign of life"
        return "its token is being made" if self.phase is Phase.MINTING else "cluster-info is not signed with it yet"

    def enter(self, phase: Phase, now: float) -> None:
        """Go on to a phase."""
        self.phase, self.changed = phase, now

    def tell(self, stage: Stage, now: float, detail: str) -> list[Tell]:
        """What people are told of it: each stage once, failures as often as there are."""
        if stage in self.told and stage is not Stage.FAILED:
            return []
        self.told[stage] = tell = Tell(self.id, self.node, stage, now, detail)
        return [tell]

    def belongs(self, node: Node) -> bool:
        """Whether the kubelet of this boot has told of the Node.

        Without a look from before the token was given, the controller having been restarted, a Node that is Ready
        does: before the token was given it was not, or we had set it to Unknown.
        """
        if self.looked is None:
            return node.ready
        return self.before is None or (self.before.uid, self.before.boot_id) != (node.uid, node.boot_id)
