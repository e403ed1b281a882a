"""What is counted of boots, as the timeline hears of them."""

from config.events import Stage
from pxeboot.metrics.boots import BootCounts
from pxeboot.metrics.histogram import Histogram
from pxeboot.timeline import Timeline

STORY = [Stage.DISCOVER, Stage.ADDRESS, Stage.LOADER, Stage.MENU, Stage.KERNEL, Stage.INITRD, Stage.NETWORK,
         Stage.FETCH, Stage.ROOT, Stage.PREPARED, Stage.SYSTEM, Stage.JOINING, Stage.JOINED, Stage.READY]  # fmt: skip


def boot(timeline: Timeline, stages: list[Stage], name: str = "m1", at_s: float = 0.0) -> float:
    """Go through these stages, 2 s each; return when the last one began."""
    for number, stage in enumerate(stages):
        timeline.record(name, stage, "", at_s + 2 * number)
        timeline.record(name, stage, "again", at_s + 2 * number + 0.5)
    return at_s + 2 * (len(stages) - 1)


def test_a_boot_counts_once_for_each_thing_that_it_reaches() -> None:
    counts = BootCounts()
    boot(Timeline(counts.entered), STORY)
    assert counts.begun == 1
    assert counts.results == {"up": 1, "joined": 1, "ready": 1}
    assert counts.durations["up"].total == 2.0 * STORY.index(Stage.SYSTEM)
    assert counts.durations["ready"].total == 2.0 * (len(STORY) - 1)


def test_the_time_of_a_stage_is_until_the_next_one() -> None:
    counts = BootCounts()
    boot(Timeline(counts.entered), STORY)
    assert {stage: histogram.total for stage, histogram in counts.stages.items()} == dict.fromkeys(STORY[:-1], 2.0)


def test_whoever_only_asks_for_an_address_begins_no_boot() -> None:
    counts, timeline = BootCounts(), Timeline()
    timeline = Timeline(counts.entered)
    for number in range(50):
        boot(timeline, [Stage.DISCOVER, Stage.ADDRESS], f"stranger{number}")
    assert counts.begun == 0


def test_a_boot_that_fails_again_and_again_failed_once_and_may_still_come_up() -> None:
    counts = BootCounts()
    timeline = Timeline(counts.entered)
    boot(timeline, [*STORY[:5], Stage.FAILED, Stage.MENU, Stage.FAILED, *STORY[4:11]])
    assert counts.results == {"failed": 1, "up": 1}
    assert counts.begun == 1
    assert Stage.FAILED not in counts.stages


def test_what_a_stranger_asks_for_in_a_machines_name_does_not_count() -> None:
    counts = BootCounts()
    timeline = Timeline(counts.entered)
    boot(timeline, [Stage.DISCOVER, Stage.ADDRESS, Stage.REFUSED, Stage.MENU])
    assert counts.begun == 1
    assert counts.stages[Stage.ADDRESS].total == 4.0


def test_a_boot_whose_beginning_we_did_not_see_has_no_duration() -> None:
    counts = BootCounts()
    boot(Timeline(counts.entered), [Stage.NETWORK, Stage.SYSTEM])
    assert counts.results["up"] == 1
    assert sum(counts.durations["up"].counts) == 0


def test_each_boot_of_a_machine_counts() -> None:
    counts = BootCounts()
    timeline = Timeline(counts.entered)
    end = boot(timeline, STORY)
    boot(timeline, STORY, at_s=end + 100)
    assert counts.begun == counts.results["up"] == 2


def test_a_histogram_counts_up_to_and_with_its_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 99.0):
        histogram.observe(value)
    assert histogram.buckets() == [("1.0", 2.0), ("2.0", 4.0), ("+Inf", 5.0)]
    assert histogram.total == 103.5
