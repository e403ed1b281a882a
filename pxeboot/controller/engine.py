"""What to do about one cluster's join command: (what the API and lts.conf say, now) → actions.

Every round the transport looks at both and asks here. Nothing is remembered that matters: the tokens are the
API's Secrets and the published command is in lts.conf, so a restarted controller, or a second one, goes on where
the first left off (it finds the token by its label, and makes no other).

A token's life: minted; published in lts.conf once cluster-info is signed with it; followed by another when half of
its life is over; and deleted a grace after its successor was published, when no machine waits with it any more, or
at its own expiry.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pxeboot.controller.cluster_info import Untrusted, discover
from pxeboot.controller.join import Discovery, JoinCommand, NotAJoinCommand
from pxeboot.controller.token import IssuedToken

LONGEST_BACKOFF_S = 30.0
"""So that joining works again that soon after the API does."""
LONGEST_RETRY_AFTER_S = 60.0
CLOCK_SLACK_S = 5.0


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
class Published:
    """What lts.conf holds now."""

    text: str = field(repr=False)
    """The value of the join key; it holds a token's secret."""
    expires: float | None
    """Until when; None when the file does not say."""

    @property
    def join(self) -> JoinCommand | None:
        """The command, or None when it is none of ours."""
        try:
            return JoinCommand.parse(self.text)
        except NotAJoinCommand:
            return None


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the API and at lts.conf."""

    tokens: tuple[IssuedToken, ...]
    """The bootstrap tokens that carry this cluster's label."""
    cluster_info: Mapping[str, str] | None
    """The data of ConfigMap kube-public/cluster-info; None when there is none."""
    own: Discovery | str
    """What the controller's kubeconfig says of the cluster, or why it says nothing that machines could use."""
    published: Published | None
    """None when lts.conf holds no join command."""


@dataclass(frozen=True, slots=True)
class Mint:
    """Make a token that lives until `expires`, then look again."""

    expires: float


@dataclass(frozen=True, slots=True)
class Push:
    """Write the join command into lts.conf, good until `expires`.

    `doubt` says why its CA and server are the kubeconfig's and not those of a signed cluster-info; None: they are.
    """

    join: JoinCommand
    expires: float
    doubt: str | None


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
    """Keeps one cluster's join command valid. Times are seconds since 1970."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._failures = 0
        self._unsigned_since: tuple[str, float] | None = None
        self._published_at: tuple[str, float] | None = None
        self._minted = False
        self.deadline = 0.0
        """When to look again."""
        self.settled = False
        """Whether lts.conf holds the newest token, once the actions of the last look are carried out."""

    def observe(self, seen: Observation, now: float) -> list[Action]:
        """Act on a successful look."""
        self.settled = False
        current = max(
            (issued for issued in seen.tokens if self._is_fresh(issued, now)),
            key=lambda issued: (issued.expires, issued.token.id),
            default=None,
        )
        if current is None and self._minted:
            return [*self.failed(seen.published, now, jitter=1.0), Complain("the API has not the token just made")]
        self._failures = 0
        self._minted = current is None
        if current is None:
            self.deadline = now
            return [*self.expire(seen.published, now), Mint(float(int(now + self._terms.ttl_s)))]
        try:
            join, doubt = self._join(seen, current, now)
        except _Waiting:
            self.deadline = now + self._terms.signer_poll_s
            return self.expire(seen.published, now)
        except Untrusted as error:
            self.deadline = self._next_look(seen.published, now, self._terms.poll_s)
            return [*self.expire(seen.published, now), Complain(str(error))]
        self.settled = True
        actions: list[Action] = []
        if seen.published != Published(join.reveal(), current.expires):
            self._published_at = (current.token.id, now)
            actions.append(Push(join, current.expires, doubt))
        dues = {issued.token.id: self._due(issued, current) for issued in seen.tokens if issued != current}
        actions += [Delete(token_id) for token_id, due in dues.items() if due <= now]
        self.deadline = min(
            now + self._terms.poll_s,
            current.expires - self._terms.ttl_s / 2,
            *(due for due in dues.values() if due > now),
        )
        return actions

    def failed(
        self, published: Published | None, now: float, jitter: float, retry_after_s: float | None = None
    ) -> list[Action]:
        """Act on a look, or an action, that failed: come back later and later, at most every half minute.

        `jitter` is a random number from 0 to 1, so that controllers do not come back all at once. `retry_after_s` is
        what a server that answers 429 or 503 asked for; it is obeyed up to a minute.
        """
        self.settled = False
        self._minted = False
        backoff_s = min(LONGEST_BACKOFF_S, 2.0 ** min(self._failures, 10))
        self._failures += 1
        wait_s = max(backoff_s * (1 + jitter) / 2, min(retry_after_s or 0.0, LONGEST_RETRY_AFTER_S))
        self.deadline = self._next_look(published, now, wait_s)
        return self.expire(published, now)

    def expire(self, published: Published | None, now: float) -> list[Action]:
        """Take an expired join command out of lts.conf, whatever the API says.

        One that does not say when it expires was written by somebody else, and is left alone until ours is there.
        """
        if published is None or published.expires is None or now < published.expires:
            return []
        return [Retract(published.expires)]

    def _is_fresh(self, issued: IssuedToken, now: float) -> bool:
        """Whether a token may be published: in the first half of its life, and not of a longer one than ours."""
        left_s = issued.expires - now
        return self._terms.ttl_s / 2 < left_s <= self._terms.ttl_s + CLOCK_SLACK_S

    def _join(self, seen: Observation, current: IssuedToken, now: float) -> tuple[JoinCommand, str | None]:
        """Return the command for `current`, and why its CA is not from a signed cluster-info.

        Raises `_Waiting` while the signer may still come, and `Untrusted` when there is no CA to trust.
        """
        doubt = None
        try:
            found = discover(seen.cluster_info, current.token)
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
            return JoinCommand(
                current.token, Discovery(self._terms.api_server or found.server, found.ca_hashes)
            ), doubt
        except NotAJoinCommand as error:
            raise Untrusted(f"no join command can be made: {error}") from None

    def _may_be_signed_yet(self, current: IssuedToken, now: float) -> bool:
        """Whether the signer still has time; a wrong signature is one that it has not renewed yet."""
        if self._unsigned_since is None or self._unsigned_since[0] != current.token.id:
            self._unsigned_since = (current.token.id, now)
        return 0 <= now - self._unsigned_since[1] < self._terms.signer_wait_s

    def _due(self, issued: IssuedToken, current: IssuedToken) -> float:
        """When a token that `current` follows is to be deleted."""
        replaced = current.created
        if self._published_at and self._published_at[0] == current.token.id:
            replaced = max(replaced, self._published_at[1])
        return min(replaced + self._terms.grace_s, issued.expires)

    def _next_look(self, published: Published | None, now: float, wait_s: float) -> float:
        """`wait_s` from now, or the moment when the published command expires, if that comes before."""
        if published and published.expires is not None and now < published.expires:
            return min(now + wait_s, published.expires)
        return now + wait_s


class _Waiting(Exception):
    """The signer may still come."""
