"""What the NBD servers are asked for, by nbdcopy and fio; what these say, and the table of it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.sides import OURS, Row

_READ_KIB, _READ_IOPS, _ERROR, _READ_MS = 5, 7, 4, 8
"""Fields of fio's terse output, version 3 (its HOWTO, "Terse output"), counted from 0."""
_PERCENTILES = slice(17, 37)


class NotMeasured(Exception):
    """A client failed, or said something else than figures."""


@dataclass(frozen=True, slots=True)
class Copy:
    """nbdcopy reads all of it."""

    name: str
    connections: int
    times: float
    """What we are to reach: so many times the best of the others."""

    @property
    def label(self) -> str:
        """What its line is called."""
        return f"nbdcopy to null, connections: {self.connections}; MB/s"

    def command(self, uri: str) -> list[str]:
        """Return the client."""
        return ["nbdcopy", f"--connections={self.connections}", uri, "null:"]


@dataclass(frozen=True, slots=True)
class Random:
    """fio reads blocks at random offsets."""

    name: str
    block_bytes: int
    depth: int
    """How many reads are on their way at a time, on one connection."""
    times: float

    @property
    def label(self) -> str:
        """What its line is called."""
        return f"fio, random {self.block_bytes >> 10} KiB, depth {self.depth}; reads a second"

    def command(self, uri: str, seconds: int, seed: int) -> list[str]:
        """Return the client."""
        return [
            *("fio", "--minimal", f"--name={self.name}", "--ioengine=nbd", f"--uri={uri}", "--rw=randread"),
            *(f"--bs={self.block_bytes}", f"--iodepth={self.depth}", f"--randseed={seed}"),
            *("--time_based", f"--runtime={seconds}"),
        ]


Load = Copy | Random
LOADS: tuple[Load, ...] = (
    Copy("copy1", 1, 1.2),
    Copy("copy4", 4, 1.2),
    Random("4k-1", 4096, 1, 1.0),
    Random("4k-16", 4096, 16, 1.2),
    Random("128k-8", 128 << 10, 8, 1.2),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one load came to."""

    size_bytes: int
    """That were read."""
    reads: float
    """How many reads that was; of nbdcopy nobody knows, and it is 0."""
    took_s: float
    p99_us: float = 0.0
    """What 99 % of the reads took at most, in microseconds."""
    cpu_s: float = 0.0
    """Of the server, with all its processes and threads."""
    busy: float = 0.0
    """Processors that were busy meanwhile, with whatever else the machine was doing."""

    @property
    def mb_per_s(self) -> float:
        """Megabytes a second."""
        return self.size_bytes / self.took_s / 1e6

    @property
    def reads_per_s(self) -> float:
        """Reads a second."""
        return self.reads / self.took_s

    @property
    def cpu_s_per_gb(self) -> float:
        """The server's processor seconds for 10^9 bytes."""
        return self.cpu_s * 1e9 / self.size_bytes

    @property
    def cpu_us_per_read(self) -> float:
        """The server's processor microseconds for a read."""
        return self.cpu_s * 1e6 / self.reads


def read_fio(said: str, block_bytes: int) -> Measured:
    """Return what fio's terse output tells. Raises `NotMeasured` when it tells of an error, or of nothing."""
    lines = [line.split(";") for line in said.splitlines() if line.startswith("3;")]
    if not lines:
        raise NotMeasured(f"fio gave no figures: {said.strip()[-500:]}")
    fields = lines[0]
    try:
        error, size_bytes, took_s = int(fields[_ERROR]), int(fields[_READ_KIB]) * 1024, int(fields[_READ_MS]) / 1000
        late = dict(field.split("=") for field in fields[_PERCENTILES])
        p99_us = float(late["99.000000%"])
    except (IndexError, KeyError, ValueError) as problem:
        raise NotMeasured(f"fio's figures are not as expected ({problem!r}): {';'.join(fields)}") from None
    if error or not size_bytes or not took_s:
        raise NotMeasured(f"fio ended with error {error}, {size_bytes} bytes read in {took_s} s")
    return Measured(size_bytes, size_bytes / block_bytes, took_s, p99_us)


Results = Mapping[tuple[str, str], Mapping[int, Measured]]
"""By the names of the load and the server: what each round came to, by its number. A round that failed is absent."""


def rows(results: Results, failed: Sequence[tuple[str, str]] = ()) -> list[Row]:
    """Return two lines or three for each load that was measured; `failed`: the load and the server, for each failure.

    Our ratio is to the server with the best median, and the median of the ratios of each round: the two stand side
    by side there, whatever else the machine did in other rounds. Where we failed once, the target is missed.
    """
    table = []
    for load in LOADS:
        of = {server: runs for (name, server), runs in results.items() if name == load.name and runs}
        broken = (load.name, OURS) in failed
        if not of and not broken:
            continue
        speed = _mb_per_s if isinstance(load, Copy) else _reads_per_s
        ratio = _ratio(of, speed)
        good = False if broken else None if ratio is None else ratio >= load.times
        table.append(Row(load.label, _medians(of, speed), 0, ratio, f">= {load.times:g} x the best", good))
        if isinstance(load, Copy):
            table.append(Row("   the server's processor, s for each GB", _medians(of, lambda m: m.cpu_s_per_gb), 3))
        else:
            table.append(Row("   the server's processor, µs for each", _medians(of, lambda m: m.cpu_us_per_read), 1))
            table.append(Row("   99 % of them took at most, µs", _medians(of, lambda m: m.p99_us), 0))
    return table


def _ratio(of: Mapping[str, Mapping[int, Measured]], speed: Callable[[Measured], float]) -> float | None:
    others = {name: value for name, value in _medians(of, speed).items() if name != OURS}
    if not others or OURS not in of:
        return None
    ours, best = of[OURS], of[max(others, key=lambda name: others[name])]
    both = [speed(ours[number]) / speed(best[number]) for number in ours if number in best]
    return median(both) if both else None


def _medians(of: Mapping[str, Mapping[int, Measured]], figure: Callable[[Measured], float]) -> dict[str, float]:
    return {name: median(map(figure, runs.values())) for name, runs in of.items()}


def _mb_per_s(measured: Measured) -> float:
    return measured.mb_per_s


def _reads_per_s(measured: Measured) -> float:
    return measured.reads_per_s
