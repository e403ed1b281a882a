"""The highest rate that a server keeps up with. Pure: `probe` does the measuring."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.dhcp_perfdhcp import Trial

MOST_DROPPED = 0.01
"""A rate counts if a smaller share than this is dropped."""
ENOUGH_BEGUN = 0.9
"""Of what was asked for, perfdhcp must begin this share; otherwise more cannot be asked on this machine."""
LOWEST = 10
"""Exchanges a second; who cannot do that is not searched any further."""

Probe = Callable[[int], Trial]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found: the best trial that counts, None if there is none, and all that were made."""

    best: Trial | None
    trials: tuple[Trial, ...]

    @property
    def per_s(self) -> float:
        """Exchanges a second, as measured; 0 if no rate counts."""
        return self.best.done_per_s if self.best else 0.0

    @property
    def at_limit(self) -> bool:
        """Whether perfdhcp gave up first, so that the server may be faster."""
        return self.best is not None and self.best.begun < ENOUGH_BEGUN


def good(trial: Trial) -> bool:
    """Return whether the server kept up."""
    return trial.dropped < MOST_DROPPED


def highest(probe: Probe, start: int, *, step: float = 1.6, precision: float = 1.06, most: int = 14) -> Found:
    """Return the highest rate that is `good`: ramp from `start` by `step`, then bisect to `precision` (both factors).

    It ends after `most` probes, and once perfdhcp does not begin what it is asked for.
    """
    trials: list[Trial] = []
    low, high = 0.0, 0.0  # the highest asked rate that is known to be good, and the lowest known to be bad
    rate = float(start)
    while len(trials) < most and rate >= LOWEST:
        trial = probe(round(rate))
        trials.append(trial)
        if good(trial):
            low = rate
            if trial.begun < ENOUGH_BEGUN:
                break
        else:
            high = rate
        if low and high:
            if high <= low * precision:
                break
            rate = (low * high) ** 0.5
        else:
            rate = rate * step if low else rate / step
    best = max((trial for trial in trials if good(trial)), key=lambda trial: trial.done_per_s, default=None)
    return Found(best, tuple(trials))
