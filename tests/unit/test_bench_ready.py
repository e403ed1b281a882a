"""The parts that `bench.ready` makes of a boot's timeline."""

from bench.ready import PARTS, parts
from config.events import Stage


def test_the_parts_of_a_boot_add_up_to_the_time_from_power_on_to_ready() -> None:
    times = {"discover": 4.0, "joined": 79.0} | {stage: 10.0 + number**2 for number, (stage, _) in enumerate(PARTS)}
    took = parts(times)
    assert took[:4] == [10.0, 1.0, 3.0, 5.0]
    assert sum(took) == times["ready"]


def test_the_parts_are_stages_in_the_order_of_a_boot() -> None:
    order = list(Stage)
    places = [order.index(Stage(stage)) for stage, _ in PARTS]
    assert places == sorted(places)
