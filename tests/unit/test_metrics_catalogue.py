"""The metrics: named by convention, documented, and what shows them names none that is not there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pxeboot.metrics import catalogue
from pxeboot.metrics.sample import Metric
from pxeboot.metrics.table import page

ROOT = Path(__file__).parent.parent.parent
MONITORING = ROOT / "deploy/monitoring"
EVERY = {metric.name: metric for metric in (*catalogue.SERVE, *catalogue.OF_CONTROLLER)}
LABELS = {"version", "python", "state", "level", "server", "stage", "result", "until", "source", "reason", "type",
          "error", "option", "pool", "standing", "code", "cluster"}  # fmt: skip
"""Each has few values: known from the code, the protocol, or from the farm's file (pool, cluster)."""


@pytest.mark.parametrize("metric", EVERY.values(), ids=lambda metric: metric.name)
def test_a_metric_is_named_by_convention_and_has_few_labels(metric: Metric) -> None:
    assert re.fullmatch("(pxeboot|process)_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") is (metric.kind == "counter")
    if metric.kind == "histogram":
        assert metric.name.endswith("_seconds")
    assert metric.help[0].isupper() or metric.help[0].isdigit()
    assert metric.help.endswith(".")
    assert set(metric.labels) <= LABELS


def test_no_name_is_there_twice() -> None:
    assert len(catalogue.SERVE) == len({metric.name for metric in catalogue.SERVE})


def test_the_table_of_metrics_is_current() -> None:
    written = (ROOT / "docs/reference/metrics.md").read_text()
    assert written == page(), "python -m pxeboot.metrics.table > docs/reference/metrics.md"


def expressions(value: Any) -> Iterator[str]:
    """Every PromQL expression in a dashboard or a file of rules."""
    match value:
        case dict():
            for key, inner in value.items():
                if key in ("expr", "definition") and isinstance(inner, str):
                    yield inner
                else:
                    yield from expressions(inner)
        case list():
            for inner in value:
                yield from expressions(inner)
        case _:
            pass


def shown(expression: str) -> list[tuple[str, dict[str, str]]]:
    """The metrics that an expression names, with the labels that it asks for.

    >>> shown('rate(pxeboot_boots_total{result="up"}[5m])')
    [('pxeboot_boots_total', {'result': 'up'})]
    """
    found = []
    for name, selector in re.findall(r"\b((?:pxeboot|process)_\w+)(\{[^}]*\})?", expression):
        asked = dict(re.findall(r'(\w+)\s*=~?\s*"([^"]*)"', selector))
        found.append((name, asked))
    return found


def metric_of(name: str) -> Metric:
    histogram = EVERY.get(re.sub("_(bucket|sum|count)$", "", name))
    if histogram is not None and histogram.kind == "histogram":
        return histogram
    assert name in EVERY, f"there is no metric {name}"
    assert EVERY[name].kind != "histogram", f"{name} is a histogram: _bucket, _sum or _count"
    return EVERY[name]


@pytest.mark.parametrize("file", ["grafana-dashboard.json", "alerts.yaml"])
def test_what_is_shown_is_there(file: str) -> None:
    every = [*expressions(yaml.safe_load((MONITORING / file).read_text()))]
    assert len(every) > 20
    for expression in every:
        named = shown(expression)
        assert named, expression
        for name, asked in named:
            metric = metric_of(name)
            assert asked.keys() <= {*metric.labels, "instance", "job"}, expression
        for by in re.findall(r"\bby \(([^)]*)\)", expression):
            known = {label for name, _ in named for label in metric_of(name).labels} | {"le", "instance", "job"}
            assert {word.strip() for word in by.split(",")} <= known, expression


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource", "instance"}


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    rules = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert not rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["description"].endswith((".", "?"))
