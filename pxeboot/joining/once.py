"""Which boot of which machine may fetch its join command, and that it may once. Pure.

A boot begins when its machine is given a menu, and ends when it is given another. Two names are made for it that
nobody else knows: one of the folder that its node.cpio is in, which only that menu tells; and one of its join
command, which only that node.cpio tells. Each is good once, for the machine that it was made for, for `LATE_S`.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Literal

LATE_S = 1800.0
"""So long after its menu, a machine may fetch its join command. One that takes longer does not boot well."""
WATCHED_S = 3600.0
"""So long after its token ended a boot may still become Ready: with its certificate, the kubelet needs no token."""
KEPT_S = LATE_S + 3600.0
"""After so long a boot is forgotten: the longest that a token lives has passed."""
MOST = 20_000
"""How many boots are kept; the oldest is forgotten first."""
RANDOM_BYTES = 8 + 16 + 16 + 32
VERSION = 1


class State(StrEnum):
    """How far a boot is with its join."""

    MENU = "menu"
    """Its machine was given a menu."""
    ARCHIVE = "archive"
    """Its machine fetched its node.cpio."""
    GIVEN = "given"
    """Its machine fetched its join command."""
    OVER = "over"
    """Nothing more is given to it; `Boot.ended` says why."""


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot of one machine that joins with a command of its own. What `repr` leaves out is secret."""

    id: str
    """16 hex digits; no secret."""
    cluster: str
    machine: str
    mac: str
    """The card that boots."""
    address: IPv4Address
    """The machine's, when it was given its menu."""
    began_s: float
    """Seconds since 1970."""
    folder: str = field(repr=False)
    """The name of the folder that its node.cpio is in."""
    join: str = field(repr=False)
    """The name of its join command."""
    seed: str = field(repr=False)
    """What its token is made from, 64 hex digits; "" once it is over."""
    state: State = State.MENU
    ended: str = ""
    """Why it is over."""
    token_id: str = ""
    """The token that it was given, if that has an id."""
    expires_s: float = 0.0
    """When that ends, in seconds since 1970; 0: we do not know."""


class Why(StrEnum):
    """Why a name is refused. The values are counted under these words."""

    UNKNOWN = "unknown"
    """It was never made, or was forgotten."""
    ADDRESS = "address"
    """It was made for another machine than whoever asks."""
    SPENT = "spent"
    """It was fetched before."""
    LATE = "late"
    """Its time is over."""
    ENDED = "ended"
    """Its boot is over."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why, and whose name it was, if anybody's."""

    why: Why
    boot: Boot | None = None


Kind = Literal["folder", "join"]


class Boots:
    """The newest boot of each machine, and the one before it. `now_s` is of a clock that nobody can set."""

    def __init__(self, kept: Iterable[Boot] = (), *, clock_s: float = 0.0, now_s: float = 0.0) -> None:
        """Go on with the boots that were kept, the oldest first; `clock_s` are seconds since 1970 now."""
        self._born_s: dict[str, float] = {}  # in the order of their ages
        self._boots: dict[str, Boot] = {}
        self._newest: dict[str, str] = {}
        self._before: dict[str, str] = {}
        self._named: dict[tuple[Kind, str], str] = {}
        for boot in kept:  # in the order in which they began, which a clock that is set does not tell
            # Where the clock was set back meanwhile, it is as if it had begun now; its time is over one day.
            self._add(boot, now_s - max(0.0, clock_s - boot.began_s))
        self._forget(now_s)

    def __iter__(self) -> Iterator[Boot]:
        return iter(list(self._boots.values()))

    def __len__(self) -> int:
        return len(self._boots)

    def get(self, boot_id: str) -> Boot | None:
        """Return a boot that is kept."""
        return self._boots.get(boot_id)

    def newest(self, machine: str) -> Boot | None:
        """Return the boot of a machine that began last."""
        boot_id = self._newest.get(machine)
        return None if boot_id is None else self._boots[boot_id]

    def begin(
        self,
        machine: str,
        cluster: str,
        mac: str,
        address: IPv4Address,
        *,
        clock_s: float,
        now_s: float,
        random: bytes,
    ) -> Boot:
        """Begin a boot, which ends the machine's one before. `random` are `RANDOM_BYTES`."""
        assert len(random) == RANDOM_BYTES
        digits = random.hex()
        boot = Boot(
            id=digits[:16], cluster=cluster, machine=machine, mac=mac, address=address, began_s=clock_s,
            folder=digits[16:48], join=digits[48:80], seed=digits[80:],
        )  # fmt: skip
        self.end(machine, "it has booted again")
        self._add(boot, now_s)
        self._forget(now_s)
        return boot

    def end(self, machine: str, why: str) -> Boot | None:
        """Give the newest boot of a machine nothing any more. Return it if that changes anything."""
        boot = self.newest(machine)
        return None if boot is None else self.over(boot.id, why)

    def over(self, boot_id: str, why: str) -> Boot | None:
        """Give this boot nothing any more. Return it if that changes anything."""
        boot = self._boots.get(boot_id)
        if boot is None or boot.state is State.OVER:
            return None
        return self._set(replace(boot, state=State.OVER, ended=why, seed=""))

    def may(self, kind: Kind, name: str, machine: str | None, now_s: float) -> Boot | Refused:
        """Return the boot that this name was made for, if `machine` (whoever asks) may fetch it now."""
        boot_id = self._named.get((kind, name))
        if boot_id is None:
            return Refused(Why.UNKNOWN)
        boot = self._boots[boot_id]
        if machine != boot.machine:
            return Refused(Why.ADDRESS, boot)
        if boot.state is State.GIVEN or (kind == "folder" and boot.state is State.ARCHIVE):
            return Refused(Why.SPENT, boot)
        if boot.state is State.OVER:
            return Refused(Why.SPENT if boot.token_id else Why.ENDED, boot)
        if now_s - self._born_s[boot.id] > LATE_S:
            return Refused(Why.LATE, boot)
        return boot

    def fetch(self, kind: Kind, name: str, machine: str | None, now_s: float) -> Boot | Refused:
        """Spend a name: the same as `may`, but from then on it may no more."""
        boot = self.may(kind, name, machine, now_s)
        if isinstance(boot, Refused):
            return boot
        return self._set(replace(boot, state=State.ARCHIVE if kind == "folder" else State.GIVEN))

    def given(self, boot_id: str, token_id: str, expires_s: float) -> Boot | None:
        """Note which token a boot was given."""
        boot = self._boots.get(boot_id)
        return None if boot is None else self._set(replace(boot, token_id=token_id, expires_s=expires_s))

    def left_s(self, boot: Boot, now_s: float) -> float:
        """Return how long this boot may still fetch its join command, in seconds; at least 0."""
        return max(0.0, self._born_s.get(boot.id, now_s - LATE_S) + LATE_S - now_s)

    def open(self, clock_s: float, now_s: float) -> list[Boot]:
        """Return the boots that may still fetch their join command, or become Ready with the one that they have."""
        return [
            boot
            for boot in self._boots.values()
            if (boot.state in (State.MENU, State.ARCHIVE) and self.left_s(boot, now_s) > 0)
            or (boot.state is State.GIVEN and boot.expires_s + WATCHED_S > clock_s)
        ]

    def _add(self, boot: Boot, born_s: float) -> None:
        before = self._newest.get(boot.machine)
        if before is not None:
            self._drop(self._before.get(boot.machine))
            self._before[boot.machine] = before
        self._boots[boot.id], self._born_s[boot.id] = boot, born_s
        self._newest[boot.machine] = boot.id
        self._named["folder", boot.folder] = self._named["join", boot.join] = boot.id

    def _set(self, boot: Boot) -> Boot:
        self._boots[boot.id] = boot
        return boot

    def _drop(self, boot_id: str | None) -> None:
        boot = None if boot_id is None else self._boots.pop(boot_id, None)
        if boot is None:
            return
        del self._born_s[boot.id], self._named["folder", boot.folder], self._named["join", boot.join]
        for of in (self._newest, self._before):
            if of.get(boot.machine) == boot.id:
                del of[boot.machine]

    def _forget(self, now_s: float) -> None:
        while self._boots:
            oldest = next(iter(self._boots))
            if len(self._boots) <= MOST and now_s - self._born_s[oldest] <= KEPT_S:
                return
            self._drop(oldest)


def dump(boots: Iterable[Boot]) -> str:
    """Return the text that keeps `boots`: a line for each. It is secret."""
    lines = [json.dumps({"version": VERSION})]
    lines += [_line(boot) for boot in boots]
    return "\n".join(lines) + "\n"


@lru_cache(maxsize=2 * MOST)
def _line(boot: Boot) -> str:
    """Return what keeps one boot. A farm that boots at once has all of them written with each that is added."""
    return json.dumps(asdict(boot), default=str)


def parse(text: str) -> tuple[list[Boot], int]:
    """Return the boots that `dump` wrote, and how many lines are damaged, which are left out.

    To lose a boot costs one machine that boots just now another try; to refuse them all would cost every one.
    """
    boots: dict[str, Boot] = {}
    damaged = 0
    for number, line in enumerate(text.splitlines()):
        try:
            value = json.loads(line)
            if number == 0 and value["version"] == VERSION:
                continue
            boot = _boot(value)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            damaged += 1
        else:
            boots[boot.id] = boot
    return list(boots.values()), damaged


_HEX = frozenset("0123456789abcdef")


def _boot(value: dict[str, object]) -> Boot:
    """Return the boot of a line. Raises `ValueError`, `KeyError`, `TypeError` or `AttributeError`."""
    texts = {
        key: value[key]
        for key in ("id", "cluster", "machine", "mac", "folder", "join", "seed", "state", "ended", "token_id")
    }
    times = {key: value[key] for key in ("began_s", "expires_s")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError("a text that is none")
    if not all(isinstance(time, int | float) and not isinstance(time, bool) for time in times.values()):
        raise ValueError("a time that is no number")
    words = {key: str(text) for key, text in texts.items()}
    began_s, expires_s = (float(str(time)) for time in times.values())
    state = State(words.pop("state"))
    lengths = {"id": 16, "folder": 32, "join": 32, "seed": 0 if state is State.OVER else 64}
    if not all(len(words[key]) == length and _HEX.issuperset(words[key]) for key, length in lengths.items()):
        raise ValueError("hex digits that are none")
    address = IPv4Address(str(value["address"]))
    return Boot(**words, address=address, began_s=began_s, expires_s=expires_s, state=state)
