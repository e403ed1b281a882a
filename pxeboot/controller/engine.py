"""What to do about one cluster's shared join command: (what is published, what the cluster says, now) → actions.

Every round the transport looks and asks here. The controller may make and delete Secrets, and neither get nor list
them. So what there is to know is where we wrote it: the token that machines use in the published command, those that
it follows beside it, and the one we made last in a file of our own, written before the token was made. A controller
that is restarted, or another that takes over, goes on from there and makes no other.

A token's life: made; published once cluster-info is signed with it; followed by another when half of its life is
over; and deleted a grace after its successor was published, when no machine waits with it any more, or at its end.

Times are seconds since 1970 by our own clock. The API server's may differ, and either may jump: `ahead_s` is how far
its clock is ahead of ours. What counts of an expiry is the clock by which it comes first.
"""

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from pxeboot.controller.cluster_info import MalformedKubeconfig, Untrusted, discover, read_kubeconfig
from pxeboot.controller.join import Discovery, JoinCommand, NotAJoinCommand
from pxeboot.controller.token import Token

LONGEST_BACKOFF_S = 30.0
"""So that joining works again that soon after the API does."""
LONGEST_RETRY_AFTER_S = 60.0
CLOCK_SLACK_S = 5.0
"""Clocks that differ by no more are the same: an HTTP Date has whole seconds, and answers take a while."""
CLOCK_JUMP_S = 60.0
"""When a clock was set by more, what is written of a token's end misleads whoever reads it: another is made."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How one cluster's tokens are kept. Seconds."""

    ttl_s: float
    """A token's life."""
    api_server: str | None = None
    """HOST:PORT that machines join at, in place of what the cluster says."""
    poll_s: float = 30.0
    """How often to look whether the cluster or lts.conf changed under us."""
    signer_wait_s: float = 10.0
    """How long cluster-info may stay unsigned for a new token before the kubeconfig's own CA is taken."""
    signer_poll_s: float = 0.5
    """How often to look meanwhile."""

    @property
    def grace_s(self) -> float:
        """How long a token outlives the publication of its successor: what a boot takes from reading lts.conf to
        joining."""
        return min(self.ttl_s / 2, 300.0)


@dataclass(frozen=True, slots=True)
class Made:
    """A token that was made, and when it ends."""

    token: Token
    expires: float


@dataclass(frozen=True, slots=True)
class Followed:
    """A token that another follows, and that is to be deleted at `until`."""

    id: str
    until: float


@dataclass(frozen=True, slots=True)
class Published:
    """What lts.conf holds now."""

    text: str = field(repr=False)
    """The value of the join key; it holds a token's secret."""
    expires: float | None
    """Until when; None when the file does not say."""
    hosts: tuple[str, ...] = ()
    """Lines for the machines' /etc/hosts."""
    followed: tuple[Followed, ...] = ()
    """The tokens before this one that are not deleted yet."""

    @property
    def join(self) -> JoinCommand | None:
        """The command, or None when it is none of ours."""
        try:
            return JoinCommand.parse(self.text)
        except NotAJoinCommand:
            return None

    @property
    def made(self) -> Made | None:
        """Its token, if we wrote it: what somebody else wrote has no end beside it."""
        join = self.join
        return None if join is None or self.expires is None else Made(join.token, self.expires)


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the API and at lts.conf."""

    published: Published | None
    """None when lts.conf holds no join command."""
    made: Made | None
    """The token that this controller was about to make, or made, last."""
    cluster_info: Mapping[str, str] | None
    """The data of ConfigMap kube-public/cluster-info; None when there is none."""
    own: Discovery | str
    """What the controller's kubeconfig says of the cluster, or why it says nothing that machines could use."""
    gone: frozenset[str] = frozenset()
    """Those of the `doubtful` tokens that the API has not."""
    hosts: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    """For each of the `servers` its lines of /etc/hosts; None where its name is not known to anybody."""


@dataclass(frozen=True, slots=True)
class Mint:
    """Make a token that lives until `expires`, which is `api_expires` by the API's clock; then look again."""

    expires: float
    api_expires: float


@dataclass(frozen=True, slots=True)
class Push:
    """Publish the join command, good until `expires`, and what goes with it.

    `doubt` says why its CA and server are the kubeconfig's and not those of a signed cluster-info; None: they are.
    """

    join: JoinCommand
    expires: float
    hosts: tuple[str, ...]
    followed: tuple[Followed, ...]
    doubt: str | None

    @property
    def published(self) -> Published:
        """What is published once it is done."""
        return Published(self.join.reveal(), self.expires, self.hosts, self.followed)


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a token that no machine holds any more. Only once every action before it has succeeded."""

    token_id: str


@dataclass(frozen=True, slots=True)
class Retract:
    """Remove the join command, which expired, from lts.conf."""

    expired: float


@dataclass(frozen=True, slots=True)
class Complain:
    """Tell a person why there is no new join command."""

    reason: str


Action = Mint | Push | Delete | Retract | Complain


class Engine:
    """Keeps one cluster's join command valid."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._failures = 0
        self._unsigned_since: tuple[str, float] | None = None
        self._minted = False
        self._aheads: deque[float] = deque(maxlen=8)  # at the last looks
        self._ahead: dict[str, float] = {}  # by token id: how far the API's clock was ahead when we first met it
        self._others: dict[str, float] = {}  # tokens that are not the current one, and until when they are kept
        self._met: dict[str, float] = {}  # tokens and their ends, as we met them
        self._deleted: set[str] = set()
        self.deadline = 0.0
        """When to look again."""
        self.settled = False
        """Whether lts.conf holds the newest token, once the actions of the last look are carried out."""

    def servers(self, seen: Observation) -> tuple[str, ...]:
        """Return every HOST:PORT that the next command may name, so that names among them can be looked up."""
        if self._terms.api_server is not None:
            return (self._terms.api_server,)
        found = [seen.own.server] if isinstance(seen.own, Discovery) else []
        if seen.published and seen.published.join:
            found.append(seen.published.join.discovery.server)
        with suppress(MalformedKubeconfig):
            found.append(read_kubeconfig((seen.cluster_info or {}).get("kubeconfig", "")).server)
        return tuple(dict.fromkeys(found))

    def doubtful(self, seen: Observation, now: float, ahead_s: float = 0.0) -> tuple[Token, ...]:
        """Return the tokens that would do if they still exist, which cluster-info does not show by a signature.

        While a new one waits for the signer, it is asked for once.
        """
        signed = seen.cluster_info or {}
        waits = self._unsigned_since
        return tuple(
            made.token
            for made in self._candidates(seen)
            if self._is_fresh(made, now, ahead_s)
            and f"jws-kubeconfig-{made.token.id}" not in signed
            and not (waits and waits[0] == made.token.id and 0 <= now - waits[1] < self._terms.signer_wait_s)
        )

    def observe(self, seen: Observation, now: float, ahead_s: float = 0.0) -> list[Action]:
        """Act on a successful look."""
        self.settled = False
        candidates = self._candidates(seen)
        # Of several servers behind one address the one whose clock is furthest ahead counts, not each in turn.
        self._aheads.append(ahead_s)
        for made in candidates:  # not before: as long as the API has not answered, its clock is not known
            self._ahead.setdefault(made.token.id, max(self._aheads))
        self._met |= {made.token.id: made.expires for made in candidates if now < made.expires}
        usable = (made for made in candidates if made.token.id not in seen.gone)
        current = next((made for made in usable if self._is_fresh(made, now, ahead_s)), None)
        if current is None and self._minted:
            failed = self.failed(seen.published, now, 1.0, ahead_s=ahead_s)
            return [*failed, Complain("the API has not the token just made")]
        self._failures = 0
        self._minted = current is None
        if current is None:
            self.deadline = now
            expires = float(int(now + self._terms.ttl_s))
            mint = Mint(expires, expires + (int(ahead_s) if abs(ahead_s) > CLOCK_SLACK_S else 0))
            return [*self.expire(seen.published, now, ahead_s), mint]
        try:
            join, doubt = self._join(seen, current, now)
        except _Waiting:
            self.deadline = now + self._terms.signer_poll_s
            return self.expire(seen.published, now, ahead_s)
        except Untrusted as error:
            self.deadline = self._next_look(seen.published, now, self._terms.poll_s)
            return [*self.expire(seen.published, now, ahead_s), Complain(str(error))]
        self.settled = True
        dues = self._dues(seen, current, now)
        actions: list[Action] = []
        wanted = Push(join, current.expires, self._hosts(seen, join), tuple(dues), doubt)
        if seen.published is None or not _same(seen.published, wanted.published):
            actions.append(wanted)
        for followed in dues:
            if followed.until <= now:
                self._deleted.add(followed.id)
                actions.append(Delete(followed.id))
        self.deadline = min(
            now + self._terms.poll_s,
            self._expiry(current, ahead_s) - self._terms.ttl_s / 2,
            *(followed.until for followed in dues if followed.until > now),
        )
        return actions

    def failed(
        self,
        published: Published | None,
        now: float,
        jitter: float,
        retry_after_s: float | None = None,
        ahead_s: float = 0.0,
    ) -> list[Action]:
        """Act on a look, or an action, that failed: come back later and later, at most every half minute.

        `jitter` is a random number from 0 to 1, so that controllers do not come back all at once. `retry_after_s` is
        what a server that answers 429 or 503 asked for; it is obeyed up to a minute.
        """
        self.settled = False
        self._minted = False
        self._deleted.clear()  # which of them came through is not known
        backoff_s = min(LONGEST_BACKOFF_S, 2.0 ** min(self._failures, 10))
        self._failures += 1
        wait_s = max(backoff_s * (1 + jitter) / 2, min(retry_after_s or 0.0, LONGEST_RETRY_AFTER_S))
        self.deadline = self._next_look(published, now, wait_s)
        return self.expire(published, now, ahead_s)

    def held(self, published: Published | None, now: float, wait_s: float, ahead_s: float = 0.0) -> list[Action]:
        """Act on a look that was not begun, since the API fails others too: come back when it may be asked again."""
        self.settled = False
        self._minted = False
        self._deleted.clear()
        self.deadline = self._next_look(published, now, wait_s)
        return self.expire(published, now, ahead_s)

    def expire(self, published: Published | None, now: float, ahead_s: float = 0.0) -> list[Action]:
        """Take an expired join command out of lts.conf, whatever the API says.

        One that does not say when it expires was written by somebody else, and is left alone until ours is there.
        """
        if published is None or published.expires is None:
            return []
        made = published.made
        ends = published.expires if made is None else self._expiry(made, ahead_s)
        return [] if now < ends else [Retract(ends)]

    def _candidates(self, seen: Observation) -> list[Made]:
        """The tokens that we know, the one that machines already use before the one that we made."""
        published = seen.published.made if seen.published else None
        if published and seen.made and published.token == seen.made.token:
            published = None  # whose end is better known to who made it
        return [made for made in (published, seen.made) if made is not None]

    def _expiry(self, made: Made, ahead_s: float) -> float:
        """When a token ends, by our clock as it is now.

        When the API's clock went ahead of ours since we met the token, or ours back, which is the same from here, it
        ends that much earlier. In the other direction our own clock's word stands, which is then the earlier one.
        """
        return made.expires - self._jump_s(made, ahead_s)

    def _jump_s(self, made: Made, ahead_s: float) -> float:
        """How far clocks moved against a token since we met it; never below 0."""
        moved_s = ahead_s - self._ahead.get(made.token.id, ahead_s)
        return moved_s if moved_s > CLOCK_SLACK_S else 0.0

    def _is_fresh(self, made: Made, now: float, ahead_s: float) -> bool:
        """Whether a token may be published: in the first half of its life, and not of a longer one than ours."""
        left_s = self._expiry(made, ahead_s) - now
        as_ours = self._terms.ttl_s / 2 < left_s <= self._terms.ttl_s + CLOCK_SLACK_S
        return as_ours and self._jump_s(made, ahead_s) <= CLOCK_JUMP_S

    def _join(self, seen: Observation, current: Made, now: float) -> tuple[JoinCommand, str | None]:
        """Return the command for `current`, and why its CA is not from a signed cluster-info.

        Raises `_Waiting` while the signer may still come, and `Untrusted` when there is no CA to trust.
        """
        doubt = None
        try:
            found = _with_all_of(discover(seen.cluster_info, current.token), seen.own)
            self._unsigned_since = None
        except Untrusted as error:
            doubt = str(error)
            published = seen.published.join if seen.published else None
            if published and published.token == current.token:
                found = published.discovery  # it was good when we wrote it, and the machines have it anyway
            elif self._may_be_signed_yet(current, now):
                raise _Waiting from None
            elif isinstance(seen.own, Discovery):
                found = seen.own
            else:
                raise Untrusted(f"{doubt}; and {seen.own}") from None
        try:
            discovery = Discovery(self._terms.api_server or found.server, found.ca_hashes)
            return JoinCommand(current.token, discovery), doubt
        except NotAJoinCommand as error:
            raise Untrusted(f"no join command can be made: {error}") from None

    def _may_be_signed_yet(self, current: Made, now: float) -> bool:
        """Whether the signer still has time; a wrong signature is one that it has not renewed yet."""
        if self._unsigned_since is None or self._unsigned_since[0] != current.token.id:
            self._unsigned_since = (current.token.id, now)
        return 0 <= now - self._unsigned_since[1] < self._terms.signer_wait_s

    def _hosts(self, seen: Observation, join: JoinCommand) -> tuple[str, ...]:
        """The lines for /etc/hosts; those that stand stay while nobody knows the name."""
        lines = seen.hosts.get(join.discovery.server, ())
        if lines is not None:
            return lines
        before = seen.published.join if seen.published else None
        return seen.published.hosts if seen.published and before and before.discovery == join.discovery else ()

    def _dues(self, seen: Observation, current: Made, now: float) -> list[Followed]:
        """The tokens that `current` follows, and when each is to be deleted, but for those that were."""
        followed = seen.published.followed if seen.published else ()
        for token_id, expires in self._met.items():
            self._others.setdefault(token_id, min(now + self._terms.grace_s, expires))
        self._others |= {other.id: other.until for other in followed}
        self._others.pop(current.token.id, None)
        self._met = {current.token.id: current.expires}
        self._ahead = {current.token.id: self._ahead[current.token.id]}
        due = [Followed(token_id, until) for token_id, until in self._others.items() if token_id not in self._deleted]
        self._others = {other.id: other.until for other in due if now < other.until}
        return due

    def _next_look(self, published: Published | None, now: float, wait_s: float) -> float:
        """`wait_s` from now, or the moment when the published command expires, if that comes before."""
        if published and published.expires is not None and now < published.expires:
            return min(now + wait_s, published.expires)
        return now + wait_s


def _with_all_of(found: Discovery, own: Discovery | str) -> Discovery:
    """Add the CAs that our own credentials trust for this cluster too: the next one, while its CA is replaced.

    Theirs are for this cluster if they have one in common; kubeadm is content if one of those it is given fits.
    """
    if isinstance(own, str) or not set(found.ca_hashes) & set(own.ca_hashes):
        return found
    return Discovery(found.server, tuple(dict.fromkeys((*found.ca_hashes, *own.ca_hashes))))


def _same(published: Published, wanted: Published) -> bool:
    """Whether machines would see no difference."""
    return (published.text, published.expires, published.hosts) == (wanted.text, wanted.expires, wanted.hosts)


class _Waiting(Exception):
    """The signer may still come."""
