"""What the self-test found about this host, before the first machine does. Pure."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["error", "warning", "note"]
"""error: machines will not boot. warning: some will not, or not for long. note: worth knowing."""
_ORDER: dict[Level, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong here, or worth knowing."""

    level: Level
    about: str
    """What it is about, in few words that stay the same: `UDP port 67`, `interface eth1`, `image node`."""
    what: str
    """What is so: a sentence that says of what."""
    remedy: str = ""
    """What to do; "" where nothing has to be done."""

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}" if self.remedy else self.what


def in_order(found: Iterable[Finding]) -> list[Finding]:
    """Return what was found, each once, the worst first."""
    return sorted(dict.fromkeys(found), key=lambda finding: (_ORDER[finding.level], finding.about))


def as_json(found: Iterable[Finding]) -> list[dict[str, str]]:
    """Return what was found as JSON values.

    >>> as_json([Finding("note", "clock", "nobody sets the clock")])
    [{'level': 'note', 'about': 'clock', 'what': 'nobody sets the clock', 'remedy': ''}]
    """
    return [{key: str(value) for key, value in asdict(finding).items()} for finding in found]
