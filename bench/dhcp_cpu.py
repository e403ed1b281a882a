"""Who uses the processors: the server that is measured, perfdhcp, or somebody who disturbs the measurement."""

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def process_s(stat: str) -> float:
    """Return the processor time of a process in seconds, all its threads together, from /proc/PID/stat (proc(5))."""
    fields = stat.rpartition(")")[2].split()  # a name may hold spaces and parentheses
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def machine_s(stat: str) -> float:
    """Return the time that processes used, and that a hypervisor took away, in seconds, from /proc/stat.

    Interrupts are left out: those of the measurement's own packets are among them.
    """
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = map(int, stat.split("\n", 1)[0].split()[1:9])
    return (user + nice + system + steal) * _TICK_S


@dataclass(frozen=True, slots=True)
class Used:
    """Processor time until now, in seconds."""

    at_s: float
    server_s: float
    ours_s: float
    """Of this process and of those that it has waited for, perfdhcp among them."""
    machine_s: float

    @classmethod
    def now(cls, pid: int) -> Self:
        """Look; `pid` is the server."""
        mine = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return cls(
            time.monotonic(),
            process_s(Path(f"/proc/{pid}/stat").read_text()),
            sum(usage.ru_utime + usage.ru_stime for usage in mine),
            machine_s(Path("/proc/stat").read_text()),
        )

    def others_since(self, before: "Used") -> float:
        """Return how many processors were used by others since then: 0.5 is half of one, all the time."""
        known_s = self.server_s - before.server_s + self.ours_s - before.ours_s
        return max(0.0, self.machine_s - before.machine_s - known_s) / (self.at_s - before.at_s)
