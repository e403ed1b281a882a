"""What the page of one machine says of its log, and of what it reported itself, in order and without secrets. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pxeboot.bootfiles.masked import mask
from pxeboot.messages import Line, Severity

LEVELS = {"all": Severity.DEBUG, "notices": Severity.NOTICE, "warnings": Severity.WARNING, "errors": Severity.ERROR}
"""What one can choose to see: that, and worse."""

_FIRST = ("failed", "mounts", "addresses", "memory", "kubelet", "fstab")
"""What people look at first in a machine's report."""
_SEPARATE = "== "


@dataclass(frozen=True, slots=True)
class Said:
    """One line of the log, for people."""

    at_s: float
    since_s: float | None
    """Seconds since the boot began that it belongs to; None: it came before all boots that are kept."""
    source: str
    level: str
    """error, warning, notice or plain: a class of the style sheet."""
    text: str
    begins: bool
    """Whether a boot begins with it."""


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a machine's report."""

    name: str
    text: str
    bad: bool
    """Whether something is wrong in it."""


def log_of(
    lines: Iterable[Line], boots_s: Sequence[float], *, level: str = "all", source: str = "all"
) -> tuple[list[Said], list[str]]:
    """Return the lines to show, the oldest first, and the sources that there are to choose from.

    `boots_s` is when each boot began that is kept, in order.
    """
    least = LEVELS.get(level, Severity.DEBUG)
    said: list[Said] = []
    sources: dict[str, None] = {}
    before: float | None = None
    for line in sorted(lines, key=lambda line: line.at_s):
        kind = line.source.partition(":")[0]
        sources[kind] = None
        if line.severity > least or source not in ("all", kind):
            continue
        began = max((began for began in boots_s if began <= line.at_s), default=None)
        since_s = None if began is None else line.at_s - began
        said.append(Said(line.at_s, since_s, line.source, _level(line.severity), mask(line.text), began != before))
        before = began
    return said, sorted(sources)


def _level(severity: Severity) -> str:
    if severity <= Severity.ERROR:
        return "error"
    return {Severity.WARNING: "warning", Severity.NOTICE: "notice"}.get(severity, "plain")


def report_of(text: str, known: Sequence[str] = ()) -> list[Section]:
    """Return the parts of a machine's report, those first that people look at; `known` secrets are masked, too.

    >>> [(part.name, part.bad) for part in report_of("== uptime\\n5.1\\n== failed\\nx.service loaded failed")]
    [('failed', True), ('uptime', False)]
    """
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(_SEPARATE):
            lines = found.setdefault(line.removeprefix(_SEPARATE).strip()[:60], [])
        else:
            lines.append(line)
    order = {name: number for number, name in enumerate(_FIRST)}
    names = sorted(found, key=lambda name: order.get(name, len(order)))
    bodies = {name: mask("\n".join(found[name]).strip(), known) for name in names}
    return [Section(name, bodies[name], name == "failed" and bool(bodies[name])) for name in names]


def image_of(text: str) -> str:
    """Return the version of the image that a machine's report names; "" if it names none."""
    lines = text[:4096].splitlines()
    for number, line in enumerate(lines[:-1]):
        if line == "== image":
            return lines[number + 1].strip()
    return ""
