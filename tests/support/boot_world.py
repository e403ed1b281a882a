"""A small cluster that behaves, for tests of `pxeboot.controller.boots`: what its actions do, without any waiting.

A test carries each action out when it likes, or has it fail, or loses the answer.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from config.events import Stage
from pxeboot.controller import boot as acts
from pxeboot.controller.boots import Boots, Terms
from pxeboot.controller.cluster_info import sign
from pxeboot.controller.join import Discovery
from pxeboot.controller.request import KUBELET_SIGNER, subjects
from pxeboot.controller.token import MACHINES_GROUP, Token, boot_group
from pxeboot.joining.talk import BootBegun, TokenAsked
from pxeboot.kube.values import Heartbeat, Node, Request

TTL_S = 600.0
USAGES = ("digital signature", "key encipherment", "client auth")
OWN = Discovery("10.0.0.1:6443", ("sha256:" + "0" * 64,))


def a_node(name: str, *, uid: str = "u1", ready: bool = True, boot_id: str = "old") -> Node:
    """A Node of that name."""
    condition = "True" if ready else "Unknown"
    return Node(name, uid, 0.0, ready, condition, boot_id, False, "", {}, (), "1")


def pem_for(node: str, key: str, *, attributes: bytes = b"\xa0\x00") -> bytes:
    """A request of the form that a kubelet makes; its key is only a name."""

    def tlv(tag: int, *parts: bytes) -> bytes:
        content = b"".join(parts)
        length = bytes([len(content)]) if len(content) < 128 else b"\x82" + len(content).to_bytes(2)
        return bytes([tag]) + length + content

    info = tlv(0x30, b"\x02\x01\x00", min(subjects(node)), tlv(0x30, tlv(0x04, key.encode())), attributes)
    der = tlv(0x30, info, tlv(0x30), tlv(0x03, b"\x00"))
    body = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + b"-----END CERTIFICATE REQUEST-----\n"


@dataclass(slots=True)
class Issued:
    """A token that the API knows."""

    token: Token
    groups: tuple[str, ...]
    boot: str
    node: str
    expires: float


@dataclass
class World:
    """The API, the machines and the daemon, around one engine."""

    cluster_info: str = ""
    now: float = 1000.0
    tokens: dict[str, Issued] = field(default_factory=dict)
    requests: dict[str, Request] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    beats: dict[str, int] = field(default_factory=dict)
    signer: bool = True
    signer_wait_s: float = 10.0
    todo: list[acts.Action] = field(default_factory=list)
    answers: dict[str, list[acts.Give | acts.Refuse]] = field(default_factory=dict)
    told: list[acts.Tell] = field(default_factory=list)
    seeds: dict[str, str] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)
    did: list[acts.Action] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)
    """When the token that was made last for a boot ends."""
    approved_at: dict[str, float] = field(default_factory=dict)
    """When a request was approved, by its uid."""

    def __post_init__(self) -> None:
        self.engine = Boots(Terms(TTL_S, signer_wait_s=self.signer_wait_s))
        self.engine.synced(self.now)

    # The daemon

    def begin(self, node: str, boot: str | None = None, given: bool = False) -> str:
        """A machine got its menu."""
        boot = boot or f"{len(self.seeds) + 1:016x}"
        seed = self.seeds.setdefault(boot, hashlib.sha256(boot.encode()).hexdigest())
        token_id = Token.derived(seed).id if given else ""
        begun = BootBegun(boot, IPv4Address("10.0.0.9"), 0.0, {"rack": "r1"}, (), token_id)
        self.feed(self.engine.begun(node, begun, self.now, self.ends.get(boot, self.now + TTL_S) - self.now))
        return boot

    def ask(self, node: str, boot: str, seed: str | None = None) -> None:
        """It asks for its token."""
        self.feed(self.engine.asked(node, TokenAsked(boot, seed or self.seeds[boot]), self.now))

    def answer(self, boot: str) -> acts.Give | acts.Refuse:
        """What it was answered last."""
        return self.answers[boot][-1]

    # Machines and thieves

    def request(
        self,
        token_id: str,
        node: str,
        key: str = "k",
        *,
        signer: str = KUBELET_SIGNER,
        usages: Sequence[str] = USAGES,
        groups: Sequence[str] = (),
        pem: bytes | None = None,
    ) -> Request | None:
        """Ask for a certificate with a token; None if the API does not know it (any more)."""
        issued = self.tokens.get(token_id)
        if issued is None or self.now >= issued.expires:
            return None
        number = len(self.requests) + 1
        request = Request(
            *(f"csr-{number}", f"uid-{number}", self.now, f"system:bootstrap:{token_id}"),
            ("system:bootstrappers", *(groups or issued.groups), "system:authenticated"),
            *(signer, tuple(usages), pem_for(node, key) if pem is None else pem),
        )
        self.requests[request.uid] = request
        self.feed(self.engine.request_seen(request, self.now))
        return request

    def approved(self, request: Request | None) -> bool | None:
        """Whether it is approved (True), denied (False), or neither."""
        assert request is not None
        found = self.requests[request.uid]
        return True if found.approved else False if found.denied else None

    def register(self, node: str, boot_id: str, *, ready: bool = True) -> None:
        """Its kubelet tells how it is."""
        old = self.nodes.get(node)
        self.nodes[node] = a_node(node, uid=old.uid if old else f"uid-of-{boot_id}", ready=ready, boot_id=boot_id)
        self.beats[node] = self.beats.get(node, 0) + 1

    # Time, and carrying out

    def feed(self, actions: Sequence[acts.Action] | None) -> None:
        """Take what the engine says; what answers or tells is done at once."""
        for action in actions or ():
            match action:
                case acts.Give() | acts.Refuse():
                    self.answers.setdefault(action.boot, []).append(action)
                case acts.Tell():
                    self.told.append(action)
                case _:
                    self.todo.append(action)

    def advance(self, seconds: float) -> None:
        """Let time pass, and the engine do what is due on the way; nothing is carried out."""
        end = self.now + seconds
        for _ in range(10_000):
            deadline = self.engine.deadline
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.feed(self.engine.expire(self.now))
        else:
            raise AssertionError("the engine does not come to rest")
        self.now = end

    def settle(self, seconds: float) -> None:
        """Let time pass; everything is carried out at once, and works."""
        end = self.now + seconds
        for _ in range(20_000):
            while self.todo:
                self.perform(self.todo.pop(0))
            deadline = self.engine.deadline
            if deadline is None or deadline > end:
                self.now = end
                return
            self.now = max(self.now, deadline)
            self.feed(self.engine.expire(self.now))
        raise AssertionError("the engine does not come to rest")

    def perform(self, action: acts.Action, *, works: bool = True, answered: bool = True) -> None:
        """Carry an action out; it may not work, or work and its answer be lost."""
        told = self.do(action) if works else None
        if isinstance(action, acts.LookInfo | acts.DeleteToken | acts.Approve | acts.Deny) or not (works and answered):
            self._tell_of(action, told if works and answered else None)
        elif told is not None:
            self.feed(told())

    def _tell_of(self, action: acts.Action, told: Callable[[], Sequence[acts.Action] | None] | None) -> None:
        if told is not None:
            self.feed(told())
            return
        engine, now = self.engine, self.now
        match action:
            case acts.LookInfo():
                self.feed(engine.info_failed("it is down", now, None))
            case acts.DeleteToken(token_id):
                self.feed(engine.delete_failed(token_id, now, None))
            case acts.Approve(request) | acts.Deny(request):
                engine.decision_failed(request.uid, now, None)
            case acts.Look() | acts.SetUnknown() | acts.Mint() | acts.ApplyOwned():
                self.feed(engine.failed(action.boot, "it is down", now))
            case _:
                raise AssertionError(action)

    def do(self, action: acts.Action) -> Callable[[], Sequence[acts.Action] | None]:
        """Do it to the API; what is returned tells the engine."""
        self.did.append(action)
        engine = self.engine
        match action:
            case acts.Look(boot, node):
                seen, beat = self.nodes.get(node), self.beats.get(node)
                heartbeat = None if beat is None else Heartbeat(str(beat), None)
                return lambda: engine.looked(boot, seen, heartbeat, self.now)
            case acts.SetUnknown(boot, node):
                if node in self.nodes:
                    self.nodes[node] = replace(self.nodes[node], ready=False, condition="Unknown")
                return lambda: engine.cleared(boot, self.now)
            case acts.Mint(boot, node, token, groups, ttl_s):
                assert groups == (MACHINES_GROUP, boot_group(boot, node))
                self.tokens[token.id] = Issued(token, groups, boot, node, self.now + ttl_s)
                self.ends[boot] = self.now + ttl_s
                return lambda: engine.minted(boot, self.now)
            case acts.LookInfo():
                data = {"kubeconfig": self.cluster_info} if self.cluster_info else {}
                if self.signer:
                    data |= {
                        f"jws-kubeconfig-{issued.token.id}": sign(self.cluster_info.encode(), issued.token)
                        for issued in self.tokens.values()
                    }
                return lambda: engine.informed(data, OWN, self.now)
            case acts.ApplyOwned(boot, node):
                self.applied.append(node)
                return lambda: engine.applied(boot, self.now)
            case acts.DeleteToken(token_id):
                self.tokens.pop(token_id, None)
                return lambda: engine.deleted(token_id)
            case acts.Approve(request):
                if not engine.stands(action, self.now):
                    return lambda: engine.decision_failed(request.uid, self.now, None)
                return self._decide(request, approve=True)
            case acts.Deny(request):
                return self._decide(request, approve=False)
            case _:
                raise AssertionError(action)

    def _decide(self, request: Request, *, approve: bool) -> Callable[[], Sequence[acts.Action] | None]:
        now = self.requests[request.uid]
        if now.waits:
            if approve:
                self.approved_at[request.uid] = self.now
            now = self.requests[request.uid] = replace(now, approved=approve, denied=not approve)
        if approve and now.approved:
            return lambda: self.engine.request_approved(request, self.now)
        return lambda: self.engine.request_gone(request.uid)

    def kill(self, given: dict[str, str]) -> None:
        """The controller is killed and starts again; the daemon tells which boots wait: `given` is node → boot."""
        self.todo.clear()
        self.engine = Boots(Terms(TTL_S, signer_wait_s=self.signer_wait_s))
        for node, boot in given.items():
            self.begin(node, boot, given=any(isinstance(answer, acts.Give) for answer in self.answers.get(boot, ())))
        for request in self.requests.values():
            self.feed(self.engine.request_seen(request, self.now))
        self.feed(self.engine.synced(self.now))

    def stages(self, boot: str) -> list[Stage]:
        """What was told of a boot, in order, each once."""
        return list(dict.fromkeys(tell.stage for tell in self.told if tell.boot == boot))
