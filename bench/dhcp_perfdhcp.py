"""perfdhcp, Kea's load generator: how it is called, and what its report says.

It plays relay agents: each exchange comes from UDP port 67 of the client's address, by unicast, with giaddr set, and
for a client of its own. It runs in one thread: the two that it has otherwise take up to three times as much of the
processors that a server would use, and from 10,000 exchanges a second on it loses answers itself (the kernel counts
them, as RcvbufErrors of its namespace).
"""

import re
from dataclasses import dataclass

WAIT_S = 0.5
"""How long it waits for the last answers once it has asked for the time given."""
NOT_ALL_DONE = 3
"""Its exit code when an exchange was not completed."""

_SECTION = re.compile(r"^\*\*\*Statistics for: ([A-Z-]+)\*\*\*$", re.MULTILINE)


class NoReport(ValueError):
    """The text is no report of perfdhcp; what it is instead is in the error."""


@dataclass(frozen=True, slots=True)
class Half:
    """One half of the four-way exchange: how many were asked, how many answered, and after how long on average."""

    sent: int
    received: int
    mean_ms: float
    """NaN if nothing was received."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of perfdhcp, that asked for `asked` exchanges a second for `period_s`."""

    asked: int
    period_s: float
    offers: Half
    acks: Half
    cpu_us: float = 0.0
    """What the server spent of a processor on each exchange that was completed, in microseconds; 0: not measured."""
    perfdhcp_us: float = 0.0
    """What perfdhcp itself spent of a processor on each, in microseconds."""
    others: float = 0.0
    """Processors that others used meanwhile, who have nothing to do with the measurement."""

    @property
    def done_per_s(self) -> float:
        """Exchanges that were completed, for each second in which some were begun."""
        return self.acks.received / self.period_s

    @property
    def dropped(self) -> float:
        """The share of exchanges that were begun and not completed, 0 to 1. Nothing begun counts as all dropped."""
        return 1 - self.acks.received / self.offers.sent if self.offers.sent else 1.0

    @property
    def begun(self) -> float:
        """The share of the exchanges asked for that perfdhcp began, 0 to 1: below 1 it is the slower one."""
        return self.offers.sent / (self.asked * self.period_s)

    @property
    def mean_ms(self) -> float:
        """The mean time of one exchange that we account for: until the OFFER, and until the ACK."""
        return self.offers.mean_ms + self.acks.mean_ms


def argv(
    server: str,
    interface: str,
    rate: int,
    *,
    period_s: float,
    seed: int,
    clients: int,
    macs: str | None = None,
    warm_up: int | None = None,
) -> list[str]:
    """Return the command that asks `server` for `rate` exchanges a second for `period_s`.

    The clients are chosen at random from `clients` of them, or from the file `macs`. With `warm_up`, there are so
    many exchanges instead, of clients that no other run has.
    """
    command = ["perfdhcp", "-4", "-g", "single", "-l", interface]
    command += ["-r", str(rate), "-s", str(seed), "-W", f"{WAIT_S * 1e6:.0f}"]
    if macs is not None:
        command += ["-M", macs]
    else:
        command += ["-R", str(clients), "-b", f"mac=00:0c:{'0f' if warm_up else '01'}:00:00:00"]
    command += ["-n", str(warm_up)] if warm_up else ["-p", f"{period_s:g}"]
    return [*command, server]


def parse(report: str, asked: int, period_s: float) -> Trial:
    """Return what the report at the end of a run says.

    Raises `NoReport` if either half of the exchange is missing or has no numbers.
    """
    parts = _SECTION.split(report)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    try:
        return Trial(asked, period_s, _half(sections["DISCOVER-OFFER"]), _half(sections["REQUEST-ACK"]))
    except KeyError as error:
        raise NoReport(f"perfdhcp says nothing of {error}: {report[-500:]!r}") from None


def _half(section: str) -> Half:
    """Read the numbers. Raises `KeyError` with the name of one that is not there."""
    found = {name: value for name, _, value in (line.partition(": ") for line in section.splitlines())}
    delay = re.match(r"([0-9.]+) ms$", found.get("avg delay", ""))
    return Half(int(found["sent packets"]), int(found["received packets"]), float(delay[1]) if delay else float("nan"))
