"""Samples as the text that Prometheus reads, by its own library."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from pxeboot.metrics.histogram import Histogram
from pxeboot.metrics.sample import Metric, Sample

_OF_KERNEL = ProcessCollector(registry=None)


class _Once(Collector):
    """What is registered to be written once."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Family]:
        """Yield it."""
        yield from self._families


def written(metrics: Sequence[Metric], samples: Iterable[Sample]) -> bytes:
    """Return the page of `metrics` in their order; one that has no sample is not there.

    What begins with process_ is asked of the kernel here. Raises `KeyError` for a sample of no metric.
    """
    of: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        of[sample.name].append(sample)
    unknown = of.keys() - {metric.name for metric in metrics}
    if unknown:
        raise KeyError(f"{', '.join(sorted(unknown))}: no such metric")
    families = [family(metric, of[metric.name]) for metric in metrics if of[metric.name]]
    wanted = {metric.name.removesuffix("_total"): metric.help for metric in metrics}
    for found in _OF_KERNEL.collect():
        if found.name in wanted:
            found.documentation = wanted[found.name]
            families.append(found)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(families))
    return generate_latest(registry)


def family(metric: Metric, samples: Sequence[Sample]) -> Family:
    """Return the samples of one metric as the library has them."""
    name, labels = metric.name.removesuffix("_total"), metric.labels
    match metric.kind:
        case "counter":
            counter = CounterMetricFamily(name, metric.help, labels=labels)
            for sample in samples:
                counter.add_metric(sample.labels, _number(sample))
            return counter
        case "gauge":
            gauge = GaugeMetricFamily(metric.name, metric.help, labels=labels)
            for sample in samples:
                gauge.add_metric(sample.labels, _number(sample))
            return gauge
        case "histogram":
            histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
            for sample in samples:
                if isinstance(sample.value, Histogram):
                    histogram.add_metric(sample.labels, sample.value.buckets(), sample.value.total)
            return histogram


def _number(sample: Sample) -> float:
    return sample.value.total if isinstance(sample.value, Histogram) else sample.value
