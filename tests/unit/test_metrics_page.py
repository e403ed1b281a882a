"""The page of metrics: what prometheus_client's own parser reads of it, how often it is made."""

import asyncio
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from config.events import Stage
from config.model import Farm
from dhcp.leases import Lease
from dhcp.plan import plan
from pxeboot.metrics import aside, catalogue
from pxeboot.metrics.exposition import written
from pxeboot.metrics.histogram import Histogram
from pxeboot.metrics.page import KEPT_S, Page
from pxeboot.metrics.readings import joins, message_type
from pxeboot.metrics.sample import Metric, Sample
from pxeboot.timeline import Timeline

METRICS = (
    Metric("a_total", "counter", "Things.", ("kind",)),
    Metric("b", "gauge", "A thing."),
    Metric("c_seconds", "histogram", "Times.", ("stage",)),
    Metric("none", "gauge", "Nothing."),
)


def parsed(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_a_page_holds_what_was_sampled() -> None:
    histogram = Histogram((1.0,))
    histogram.observe(0.5)
    histogram.observe(3.0)
    samples = [Sample("a_total", 3, ("x",)), Sample("b", 1.5), Sample("c_seconds", histogram, ("menu",))]
    assert parsed(written(METRICS, samples)) == {
        ("a_total", (("kind", "x"),)): 3.0,
        ("b", ()): 1.5,
        ("c_seconds_bucket", (("le", "1.0"), ("stage", "menu"))): 1.0,
        ("c_seconds_bucket", (("le", "+Inf"), ("stage", "menu"))): 2.0,
        ("c_seconds_count", (("stage", "menu"),)): 2.0,
        ("c_seconds_sum", (("stage", "menu"),)): 3.5,
    }


def test_a_sample_of_no_metric_is_a_fault_of_ours() -> None:
    with pytest.raises(KeyError, match="unheard_of"):
        written(METRICS, [Sample("unheard_of", 1)])


@given(st.text(max_size=30))
def test_any_label_is_escaped(label: str) -> None:
    label = label.replace("\r", "")  # the parser splits lines there, the format does not
    page = written(METRICS, [Sample("a_total", 1, (label,))])
    if len(page.decode().splitlines()) == 3:
        assert parsed(page) == {("a_total", (("kind", label),)): 1.0}


def test_many_readers_cost_one_page_a_second() -> None:
    made = 0

    def samples() -> Iterator[Sample]:
        nonlocal made
        made += 1
        yield Sample("b", made)

    process = catalogue.PROCESS

    async def read() -> None:
        page = Page((*METRICS, *process), samples)
        began = time.monotonic()
        for _ in range(10):
            await asyncio.gather(*(page.text() for _ in range(50)))
        assert 1 <= made <= 1 + (time.monotonic() - began) / KEPT_S

    asyncio.run(read())


def farm(**more: object) -> Farm:
    nodes = [{"name": f"m{n}", "macs": [f"52:54:00:00:00:{n:02x}"], "ip": f"10.77.0.{n}"} for n in range(1, 4)]
    return Farm.model_validate(
        {
            "dhcp": {"subnets": [{"subnet": "10.77.0.0/24", "pool": "10.77.0.100-10.77.0.109"}]},
            "images": {"i": {"path": "/i"}},
            "pools": [{"name": "w", "image": "i", "nodes": nodes}],
            **more,
        }
    )


def test_machines_are_counted_by_how_they_do_and_by_stage() -> None:
    timeline = Timeline()
    timeline.record("m1", Stage.SYSTEM, "", 100.0)
    timeline.record("m2", Stage.FAILED, "no image", 100.0)
    timeline.record("m3", Stage.KERNEL, "", 100.0)
    found = {(sample.name, *sample.labels): sample.value for sample in aside.machines([*timeline], farm(), 101.0)}
    states = {labels[1]: value for labels, value in found.items() if labels[0] == "pxeboot_machines"}
    assert states == {"stuck": 1, "waiting": 0, "booting": 1, "up": 1, "quiet": 0}
    assert found["pxeboot_machines_by_stage", "kernel"] == 1
    assert sum(value for labels, value in found.items() if labels[0] == "pxeboot_machines_by_stage") == 3  # type: ignore[misc] # no histogram is among them


def test_pools_are_told_by_how_full_they_are() -> None:
    leases = [Lease(IPv4Address(f"10.77.0.{n}"), f"52:54:00:00:01:{n:02x}", 2000) for n in (100, 101)]
    found = {(s.name, *s.labels): s.value for s in aside.addresses(plan(farm()), leases, 1000.0)}
    assert found["pxeboot_dhcp_pool_size", "10.77.0.100-10.77.0.109"] == 10
    assert found["pxeboot_dhcp_pool_used", "10.77.0.100-10.77.0.109"] == 2
    assert found["pxeboot_dhcp_leases", "bound"] == 2


def test_of_very_many_pools_the_fullest_are_told() -> None:
    subnets = [{"subnet": f"10.{a}.{b}.0/24", "pool": f"10.{a}.{b}.100-10.{a}.{b}.109"}
               for a in range(3) for b in range(200)]  # fmt: skip
    lease = Lease(IPv4Address("10.2.199.100"), "52:54:00:00:01:01", 2000)
    made = plan(farm(dhcp={"subnets": subnets}, pools=[]))
    told = [sample for sample in aside.addresses(made, [lease], 1000.0) if sample.name == "pxeboot_dhcp_pool_used"]
    assert len(told) == aside.MOST_POOLS
    assert ("10.2.199.100-10.2.199.109",) in [sample.labels for sample in told if sample.value == 1]


@given(st.binary(max_size=2))
def test_whatever_a_client_calls_its_message_the_types_are_few(held: bytes) -> None:
    few = {"bootp", "unknown", "discover", "offer", "request", "decline", "ack", "nak", "release", "inform"}
    assert message_type(held) in few


def test_joins_are_told_where_there_are_any() -> None:
    assert [*joins({})] == []
    told = {
        (s.name, *s.labels): s.value for s in joins({"joins": {"open": 2, "given": 5, "spent": 1}, "controller": None})
    }
    assert told == {
        ("pxeboot_joins_open",): 2,
        ("pxeboot_joins_total", "given"): 5,
        ("pxeboot_joins_total", "spent"): 1,
    }
