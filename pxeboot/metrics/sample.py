"""A metric, and a value of one. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pxeboot.metrics.histogram import Histogram

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """What is told: `name` is that of the exposition format, with `_total` if it is a counter."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of the metric `name`; `labels` are the values of its labels, in their order."""

    name: str
    value: float | Histogram
    labels: tuple[str, ...] = ()


Samples = Iterator[Sample]
