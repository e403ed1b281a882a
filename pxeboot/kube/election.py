"""Who leads: (a Lease as it was read, now) → what to do. Pure; `now` is in seconds of our own clock, which only runs.

The times in a record are another machine's, so they decide nothing. A record is over when *we* have seen it unchanged
for as long as it says that it lasts, though it may have been deleted meanwhile, or be one of a backup by now. And we
lead only until `renew_s` after we *sent* the last renewal that was accepted, which is before it could be over for
anybody else, even if the API does not answer and even if we were stopped meanwhile.
"""

from dataclasses import dataclass, replace

from pxeboot.kube.values import Lease, is_earlier


@dataclass(frozen=True, slots=True)
class Create:
    """Make the record: there is none."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Replace:
    """Write the record, if it is still the one that was read."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Wait:
    """Another leads."""

    holder: str


Action = Create | Replace | Wait


class Candidate:
    """One that seeks the lead, under an `identity` that nobody else uses. Seconds.

    A record lasts for `duration_s` after it was last seen to change; we give up after `renew_s` of that.
    """

    def __init__(self, name: str, identity: str, duration_s: int) -> None:
        """Begin without the lead, knowing nothing."""
        self._name = name
        self._identity = identity
        self._duration_s = duration_s
        self.renew_s = duration_s * 2 / 3
        self.retry_s = duration_s / 7
        """How often to look, or to renew."""
        self.until = 0.0
        """Until when we may act as the leader."""
        self._seen: Lease | None = None
        self._seen_at = 0.0

    @property
    def holder(self) -> str:
        """Who held the record when it was last seen; "" for nobody."""
        return self._seen.holder if self._seen else ""

    def leads(self, now: float) -> bool:
        """Whether we may act as the leader at this moment."""
        return now < self.until

    def observe(self, record: Lease | None, now: float, wall: float) -> Action:
        """Say what to do about the record, read by `now`. `wall`, seconds since 1970, is only written down."""
        seen = self._seen
        is_lost = seen and (record is None or is_earlier(record.resource_version, seen.resource_version))
        if seen and is_lost and seen.holder not in ("", self._identity) and now - self._seen_at < seen.duration_s:
            self.until = 0.0
            return Wait(seen.holder)  # who may not know yet
        if record is None:
            self._seen, self.until = None, 0.0
            return Create(Lease(self._name, self._identity, self._duration_s, acquired_s=wall, renewed_s=wall))
        if self._seen is None or self._seen.resource_version != record.resource_version:
            self._seen, self._seen_at = record, now
        if record.holder == self._identity:
            return self._renewal(record, wall)
        self.until = 0.0
        if record.holder and now - self._seen_at < record.duration_s:
            return Wait(record.holder)
        mine = replace(record, holder=self._identity, duration_s=self._duration_s)
        return Replace(replace(mine, acquired_s=wall, renewed_s=wall, transitions=record.transitions + 1))

    def renew(self, wall: float) -> Replace | None:
        """Say how to renew the record without reading it, if it was ours when we last heard of it."""
        record = self._seen
        return self._renewal(record, wall) if record and record.holder == self._identity else None

    def wrote(self, record: Lease, sent: float) -> None:
        """What we sent at `sent` was accepted and is now `record`."""
        self._seen, self._seen_at = record, sent
        self.until = sent + self.renew_s

    def release(self, wall: float) -> Replace | None:
        """Lead no more, and say how to let the next one lead at once, if the record is ours."""
        self.until = 0.0
        renewal = self.renew(wall)
        return Replace(replace(renewal.lease, holder="", duration_s=1)) if renewal else None

    def _renewal(self, record: Lease, wall: float) -> Replace:
        return Replace(replace(record, duration_s=self._duration_s, renewed_s=wall))
