import asyncio

from config.events import Stage
from pxeboot.api.control import AT_ONCE, in_turn, machine_json
from pxeboot.timeline import Timeline


def test_of_many_machines_the_newest_step_is_told_and_of_one_all() -> None:
    timeline = Timeline()
    for second, stage in enumerate((Stage.DISCOVER, Stage.ADDRESS, Stage.LOADER, Stage.DISCOVER, Stage.ADDRESS)):
        machine = timeline.record("m1", stage, f"detail {second}", second)
    newest = {"stage": "address", "first_s": 4, "last_s": 4, "detail": "detail 4", "bytes_sent": 0,
              "took_s": 0.0, "resent": 0}  # fmt: skip
    shown = machine_json(machine, whole=False)
    assert shown["boot"] == {"started_s": 3, "stage": "address", "refused": None, "steps": [newest], "notes": []}
    assert "boots" not in shown
    whole = machine_json(machine, whole=True)
    boot = whole["boot"]
    assert isinstance(boot, dict)
    assert [step["stage"] for step in boot["steps"]] == ["discover", "address"]
    assert boot["steps"][-1] == newest
    boots = whole["boots"]
    assert isinstance(boots, list)
    assert len(boots) == 2
    assert len(boots[0]["steps"]) == 3


def test_who_was_refused_is_told_beside_the_newest_step() -> None:
    timeline = Timeline()
    timeline.record("m1", Stage.SYSTEM, "up", 1)
    machine = timeline.record("m1", Stage.REFUSED, "10.0.0.66 asked for its join command, and is not it", 2)
    boot = machine_json(machine, whole=False)["boot"]
    assert isinstance(boot, dict)
    assert boot["refused"] == "10.0.0.66 asked for its join command, and is not it"
    assert [step["stage"] for step in boot["steps"]] == ["system"]


def test_while_a_large_farm_is_told_of_others_have_their_turn() -> None:
    told: list[int] = []
    seen: list[int] = []

    async def other() -> None:
        while len(told) < 10 * AT_ONCE:
            seen.append(len(told))
            await asyncio.sleep(0)

    async def both() -> None:
        beside = asyncio.create_task(other())
        async for number in in_turn(range(10 * AT_ONCE)):
            told.append(number)  # noqa: PERF401 # the other one looks at it meanwhile
        await beside

    asyncio.run(both())
    assert told == list(range(10 * AT_ONCE))
    assert seen == [AT_ONCE * turn for turn in range(1, 10)]
