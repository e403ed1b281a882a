"""What each machine is to do when it is next powered on: the farm's word, and what was said at run time. Pure.

    netboot   from the network, every time
    local     from its own disk
    refuse    not at all, and it is told so
    once      from the network one time, then from its own disk

`once` is used up when the machine's boot loader has everything loaded and asks leave to start the kernel: not when
its firmware, iPXE or GRUB ask for an address or a file, which each does again and again in one boot, and not by a
boot that broke off before. What its kernel and system fetch later depends on no intent.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

VERSION = 1


class Boot(StrEnum):
    """What a machine is to do."""

    NETBOOT = "netboot"
    LOCAL = "local"
    REFUSE = "refuse"
    ONCE = "once"


class Origin(StrEnum):
    """Where an intent comes from, in words."""

    FARM = "the farm's file"
    COMMAND = "pxeboot node"
    SPENT = "its one boot from the network began"


@dataclass(frozen=True, slots=True)
class Intent:
    """What one machine is to do, by whose word, and since when (seconds since 1970; None: since the farm says so)."""

    boot: Boot
    origin: Origin = Origin.FARM
    since_s: float | None = None


class DamagedRecords(ValueError):
    """The kept intents cannot be read; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Intents:
    """The intents of all machines: `configured` by the farm's file, and over it those of `records`."""

    configured: Mapping[str, Boot]
    records: Mapping[str, Intent]

    def of(self, name: str) -> Intent:
        """Return what the machine `name` is to do. One that the farm does not list boots from the network."""
        return self.records.get(name) or Intent(self.configured.get(name, Boot.NETBOOT))

    def said(self, names: Iterable[str], boot: Boot, now_s: float) -> "Intents":
        """Return the intents after somebody said `boot` of these machines.

        Saying what the farm's file says takes the record away, so that the file rules again.
        """
        records = dict(self.records)
        for name in names:
            if self.configured.get(name, Boot.NETBOOT) is boot:
                records.pop(name, None)
            else:
                records[name] = Intent(boot, Origin.COMMAND, now_s)
        return Intents(self.configured, records)

    def started(self, name: str, now_s: float) -> "Intents":
        """Return the intents after the machine's boot loader has all it needs to start a kernel."""
        if self.of(name).boot is not Boot.ONCE:
            return self
        return Intents(self.configured, {**self.records, name: Intent(Boot.LOCAL, Origin.SPENT, now_s)})

    def may_start(self, name: str) -> bool:
        """Return whether a boot loader that was given a kernel may still start it.

        It may after a `once` was used up: a machine that asks again did not hear our answer. It may not if somebody
        said `local` or `refuse` while it was loading.
        """
        intent = self.of(name)
        return intent.boot in (Boot.NETBOOT, Boot.ONCE) or intent.origin is Origin.SPENT

    @property
    def unlisted(self) -> list[str]:
        """The machines that have a record and are not in the farm's file."""
        return sorted(self.records.keys() - self.configured.keys())


def dump(records: Mapping[str, Intent]) -> str:
    """Return the text that keeps `records`.

    >>> print(dump({"m1": Intent(Boot.LOCAL, Origin.COMMAND, 5.0)}), end="")
    {
     "version": 1,
     "intents": {
      "m1": {
       "boot": "local",
       "origin": "pxeboot node",
       "since_s": 5.0
      }
     }
    }
    """
    kept = {
        name: {"boot": intent.boot, "origin": intent.origin, "since_s": intent.since_s}
        for name, intent in sorted(records.items())
    }
    return json.dumps({"version": VERSION, "intents": kept}, indent=1) + "\n"


def parse(text: str) -> dict[str, Intent]:
    """Return the records that `dump` wrote. Raises `DamagedRecords`.

    Nothing is skipped: a `local` that was lost would reinstall a machine.
    """
    try:
        value = json.loads(text)
        if value["version"] != VERSION:
            raise DamagedRecords(f"version {value['version']!r} is not ours, {VERSION}")
        return {name: _intent(name, kept) for name, kept in value["intents"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DamagedRecords):
            raise
        raise DamagedRecords(f"{type(error).__name__}: {error}") from None


def _intent(name: str, kept: Mapping[str, object]) -> Intent:
    since_s = kept["since_s"]
    if isinstance(since_s, bool) or not isinstance(since_s, int | float):
        raise DamagedRecords(f"{name!r}: since_s is {since_s!r}")
    try:
        return Intent(Boot(str(kept["boot"])), Origin(str(kept["origin"])), float(since_s))
    except ValueError as error:
        raise DamagedRecords(f"{name!r}: {error}") from None
