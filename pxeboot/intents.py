"""What each machine is to do when it is next powered on: the farm's word, and what was said at run time. Pure.

    netboot   from the network, every time
    local     from its own disk
    refuse    not at all, and it is told so
    once      from the network one time, then from its own disk

`once` is used up when the machine's boot loader has everything loaded and asks leave to start the kernel: not when
its firmware, iPXE or GRUB ask for an address or a file, which each does again and again in one boot, and not by a
boot that broke off before. What its kernel and system fetch later depends on no intent.

A machine can be given another image than its pool's, for one boot or until something else is said. One for one boot
is used up at the same moment, so such a machine asks leave, too.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

VERSION = 2
"""Of records that name an image or a person. Others are written as version 1, which older servers read, too."""

_IMAGE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*)(?:@(?P<id>[0-9a-f]{4,64}))?")


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
    PAGE = "the web page"
    SPENT = "its one boot from the network began"


@dataclass(frozen=True, slots=True)
class Intent:
    """What one machine is to do, by whose word, and since when (seconds since 1970; None: since the farm says so)."""

    boot: Boot
    origin: Origin = Origin.FARM
    since_s: float | None = None
    by: str = ""
    """The name of the person who said so on the web page."""
    image: str = ""
    """What it boots in place of its pool's image: NAME, or NAME@ID for one version; "" for its pool's."""
    image_once: bool = False
    """Whether that holds for one boot only."""

    @property
    def asks_leave(self) -> bool:
        """Whether a boot uses something up, so that its boot loader has to ask before it starts the kernel."""
        return self.boot is Boot.ONCE or (self.boot is Boot.NETBOOT and self.image_once)

    @property
    def whence(self) -> str:
        """Where it comes from, in words.

        >>> Intent(Boot.LOCAL, Origin.PAGE, 5.0, by="anna").whence
        'anna (the web page)'
        """
        return f"{self.by} ({self.origin})" if self.by else self.origin.value


def parse_image(text: str) -> tuple[str, str]:
    """Return the name and the version of NAME or NAME@ID; "" is no version. Raises `ValueError`.

    >>> parse_image("node"), parse_image("node@ab12")
    (('node', ''), ('node', 'ab12'))
    """
    found = _IMAGE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} names no image; write NAME, or NAME@ID for one version of it")
    return found["name"], found["id"] or ""


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

    def said(
        self,
        names: Iterable[str],
        boot: Boot | None,
        now_s: float,
        *,
        image: str | None = None,
        once: bool = False,
        origin: Origin = Origin.COMMAND,
        by: str = "",
    ) -> "Intents":
        """Return the intents after somebody said `boot`, or which `image`, of these machines; None: as it is.

        Saying what the farm's file says takes the record away, so that the file rules again.
        """
        records = dict(self.records)
        for name in names:
            now = self.of(name)
            changed = Intent(
                now.boot if boot is None else boot,
                origin,
                now_s,
                by,
                now.image if image is None else image,
                now.image_once if image is None else once and bool(image),
            )
            self._put(records, name, changed)
        return Intents(self.configured, records)

    def _put(self, records: dict[str, Intent], name: str, intent: Intent) -> None:
        if self.configured.get(name, Boot.NETBOOT) is intent.boot and not intent.image:
            records.pop(name, None)
        else:
            records[name] = intent

    def started(self, name: str, now_s: float) -> "Intents":
        """Return the intents after the machine's boot loader has all it needs to start a kernel."""
        now = self.of(name)
        if not now.asks_leave:
            return self
        after = replace(now, image="", image_once=False) if now.image_once else now
        if after.boot is Boot.ONCE:
            after = replace(after, boot=Boot.LOCAL, origin=Origin.SPENT, since_s=now_s, by="")
        records = dict(self.records)
        self._put(records, name, after)
        return Intents(self.configured, records)

    def may_start(self, name: str) -> bool:
        """Return whether a boot loader that was given a kernel may still start it.

        It may after a `once` was used up: a machine that asks again did not hear our answer. It may not if somebody
        said `local` or `refuse` while it was loading.
        """
        intent = self.of(name)
        return intent.boot in (Boot.NETBOOT, Boot.ONCE) or intent.origin is Origin.SPENT

    @property
    def steered(self) -> frozenset[str]:
        """The machines that are not to boot from the network whenever they are switched on."""
        said = {name for name, intent in self.records.items() if intent.boot is not Boot.NETBOOT}
        configured = (name for name, boot in self.configured.items() if boot is not Boot.NETBOOT)
        return frozenset(said.union(name for name in configured if name not in self.records))

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
    kept = {name: _kept(intent) for name, intent in sorted(records.items())}
    version = VERSION if any(intent.image or intent.by for intent in records.values()) else 1
    return json.dumps({"version": version, "intents": kept}, indent=1) + "\n"


def _kept(intent: Intent) -> dict[str, object]:
    """Return what is kept of an intent: what a version 1 has, and of the rest what was said."""
    kept: dict[str, object] = {"boot": intent.boot, "origin": intent.origin, "since_s": intent.since_s}
    if intent.by:
        kept["by"] = intent.by
    if intent.image:
        kept |= {"image": intent.image, "image_once": intent.image_once}
    return kept


def parse(text: str) -> dict[str, Intent]:
    """Return the records that `dump` wrote. Raises `DamagedRecords`.

    Nothing is skipped: a `local` that was lost would reinstall a machine.
    """
    try:
        value = json.loads(text)
        if value["version"] not in (1, VERSION):
            raise DamagedRecords(f"version {value['version']!r} is not ours, {VERSION} or 1")
        return {name: _intent(name, kept) for name, kept in value["intents"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DamagedRecords):
            raise
        raise DamagedRecords(f"{type(error).__name__}: {error}") from None


def _intent(name: str, kept: Mapping[str, object]) -> Intent:
    since_s = kept["since_s"]
    if isinstance(since_s, bool) or not isinstance(since_s, int | float):
        raise DamagedRecords(f"{name!r}: since_s is {since_s!r}")
    by, image, once = kept.get("by", ""), kept.get("image", ""), kept.get("image_once", False)
    if not (isinstance(by, str) and isinstance(image, str) and isinstance(once, bool)):
        raise DamagedRecords(f"{name!r}: what it boots is {image!r}, by the word of {by!r}")
    try:
        if image:
            parse_image(image)
        return Intent(Boot(str(kept["boot"])), Origin(str(kept["origin"])), float(since_s), by, image, once)
    except ValueError as error:
        raise DamagedRecords(f"{name!r}: {error}") from None
