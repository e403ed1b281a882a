"""What a line of a machine's log says of its boot: that it is over, or that something is wrong. Pure."""

import re
from dataclasses import dataclass

KERNEL = frozenset(("", "kernel"))
"""Who writes what the kernel says: netconsole names nobody, syslog does."""


def _any(*texts: str) -> re.Pattern[str]:
    """Return what finds one of the expressions, and all that follows it."""
    return re.compile(f"(?:{'|'.join(texts)}).*")


_PANIC = "Kernel panic - not syncing: "
OF_KERNEL = (
    ("its kernel panicked", True, _any(_PANIC)),
    ("its kernel found no root", True, _any("VFS: Unable to mount root fs")),
    ("its kernel has a bug", False, _any("BUG: ", "Oops: ", "kernel BUG at ", "general protection fault",
                                         "Unable to handle kernel ")),
    ("it is out of memory", False, _any("Out of memory: ", "Memory cgroup out of memory: ",
                                        r"(?<!\S)\S+ invoked oom-killer")),
    ("its root cannot be read", False, _any("SQUASHFS error: ", "EXT4-fs error",
                                            "overlayfs: (?:failed|invalid|maxim)")),
    ("its NBD root fails", False, _any(r"(?:block )?nbd\d+: (?:Receive control failed|Connection timed out"
                                       r"|Dead connection|shutting down)")),
    ("a disk of it fails", False, _any("blk_update_request: I/O error", "Buffer I/O error", "I/O error, dev ")),
    ("it hangs", False, _any("watchdog: BUG: soft lockup", "INFO: task .* blocked for more than",
                             r"rcu: INFO: rcu_\w+ (?:self-)?detected stall")),
)  # fmt: skip
"""What the kernel says, in the words of Linux 6: what is wrong, and whether the machine goes no further by itself."""

OF_SYSTEMD = (
    ("it starts no system", True, _any("Freezing execution", "Failed to execute /sbin/init")),
    ("its system is in emergency mode", True, _any("You are in emergency mode",
                                                   "Started (?:emergency.service|Emergency)")),
    ("a unit of its system failed", False, _any("Failed to start ", "Failed to mount ", "Dependency failed for ",
                                                "Timed out waiting for device ")),
)  # fmt: skip
"""What systemd says, in the words of its versions 252 to 257. A unit that fails may be one that nobody misses."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong."""

    kind: str
    """One of the few texts above."""
    what: str
    """The machine's own words."""
    certain: bool
    """Whether its boot is over."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def trouble(program: str, text: str) -> Trouble | None:
    """Return what a line of `program` says is wrong; None if nothing that we know.

    >>> str(trouble("", "Kernel panic - not syncing: No working init found."))
    'its kernel panicked: No working init found.'
    """
    for kind, certain, pattern in OF_KERNEL if program in KERNEL else OF_SYSTEMD if program == "systemd" else ():
        if (found := pattern.search(text)) is not None:
            return Trouble(kind, found[0].removeprefix(_PANIC).strip()[:200], certain)
    return None
