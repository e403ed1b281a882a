"""What is kept of the lines about machines, and what goes first."""

from hypothesis import given
from hypothesis import strategies as st

from pxeboot.messages import MAX_BYTES, MAX_LINE, MAX_LINES, Messages, Severity


def test_lines_come_back_in_their_order_with_who_wrote_them() -> None:
    messages = Messages()
    messages.add("m1", 1.0, "kernel", "Linux version 6.1")
    messages.add("m1", 2.0, "syslog:sshd", "listening", Severity.NOTICE)
    messages.add("m2", 2.5, "pxeboot", "another machine")
    assert [(line.at_s, line.source, line.severity, line.text) for line in messages.of("m1")] == [
        (1.0, "kernel", Severity.INFORMATIONAL, "Linux version 6.1"),
        (2.0, "syslog:sshd", Severity.NOTICE, "listening"),
    ]
    assert messages.of("nobody") == []


def test_a_boot_has_the_lines_from_its_beginning_until_the_next_one() -> None:
    messages = Messages()
    for at in range(10):
        messages.add("m1", float(at), "kernel", f"line {at}")
    assert [line.text for line in messages.of("m1", 3.0, 5.0)] == ["line 3", "line 4"]


def test_the_oldest_lines_of_a_machine_go_first() -> None:
    messages = Messages()
    for at in range(MAX_LINES + 50):
        messages.add("m1", float(at), "kernel", f"line {at}")
    lines = messages.of("m1")
    assert len(lines) == MAX_LINES
    assert (lines[0].text, lines[-1].text) == ("line 50", f"line {MAX_LINES + 49}")


def test_a_long_line_is_cut() -> None:
    messages = Messages()
    messages.add("m1", 0.0, "kernel", "x" * 100_000)
    assert messages.of("m1")[0].text == "x" * MAX_LINE


def test_the_machine_that_was_silent_longest_is_forgotten_first() -> None:
    messages = Messages(max_all_bytes=10_000)
    messages.add("talks", 0.0, "kernel", "x" * 1000)
    messages.add("silent", 1.0, "kernel", "x" * 1000)
    for at in range(8):
        messages.add("talks", 2.0 + at, "kernel", "x" * 1000)
    assert messages.of("silent") == []
    assert len(messages.of("talks")) == 9


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3000)), max_size=400), st.integers(5_000, 200_000)
)
def test_no_flood_of_lines_takes_more_than_the_bounds(flood: list[tuple[str, int]], most: int) -> None:
    messages = Messages(max_all_bytes=most)
    for at, (machine, length) in enumerate(flood):
        messages.add(machine, float(at), "kernel", "x" * length)
    every = {machine: messages.of(machine) for machine in "abcdefgh"}
    assert all(len(lines) <= MAX_LINES for lines in every.values())
    sizes = {name: sum(len(line.text) + len(line.source) + 150 for line in lines) for name, lines in every.items()}
    assert all(size <= MAX_BYTES for size in sizes.values())
    assert sum(sizes.values()) == messages.size_bytes <= max(most, MAX_BYTES)
    assert sum(messages.counts.values()) == len(flood)
