"""What a machine's log says is wrong stands with its boot."""

from config.events import Stage
from pxeboot.api.control import boot_json
from pxeboot.timeline import KEPT_NOTES, Timeline


def test_a_note_stands_with_the_newest_boot_and_changes_nothing_of_its_stage() -> None:
    timeline = Timeline()
    timeline.record("m1", Stage.DISCOVER, "", 1.0)
    timeline.record("m1", Stage.MENU, "", 2.0)
    before = timeline.changes
    timeline.note("m1", "its kernel has a bug: BUG: x", 3.0)
    timeline.note("nobody", "who?", 3.0)
    machine = timeline.get("m1")
    assert machine is not None
    assert machine.boots[-1].stage is Stage.MENU
    assert boot_json(machine.boots[-1])["notes"] == [{"at_s": 3.0, "text": "its kernel has a bug: BUG: x"}]
    assert [changed.name for changed in timeline.changed_since(before)] == ["m1"]
    assert timeline.get("nobody") is None


def test_few_notes_of_a_boot_are_kept() -> None:
    timeline = Timeline()
    timeline.record("m1", Stage.MENU, "", 2.0)
    for number in range(100):
        timeline.note("m1", f"note {number}", 3.0)
    machine = timeline.get("m1")
    assert machine is not None
    assert [note.text for note in machine.boots[-1].notes] == [f"note {n}" for n in range(100 - KEPT_NOTES, 100)]
