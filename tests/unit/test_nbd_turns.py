import threading
import time
from itertools import count

import pytest

from nbd.turns import FEWEST, LOOK_S, MOST, Turns


class Machine:
    """A clock and a processor that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.used_s = 0.0
        self.turns = Turns(lambda: self.now_s, lambda: self.used_s)

    def passes(self, busy: float, looks: int = 1) -> int:
        """Let some time pass in which so many processors are used; return how many may have their turn then."""
        for _ in range(looks):
            self.now_s += LOOK_S
            self.used_s += LOOK_S * busy
            with self.turns:
                pass
        return self.turns.at_a_time


def test_while_the_interpreter_is_idle_more_have_their_turn_and_fewer_while_it_is_busy() -> None:
    machine = Machine()
    assert machine.turns.at_a_time == FEWEST
    assert machine.passes(0.1) == 2 * FEWEST
    assert machine.passes(0.1, looks=9) == MOST
    assert machine.passes(0.75) == MOST
    assert machine.passes(1.3) == MOST // 2
    assert machine.passes(1.3, looks=9) == FEWEST


def test_who_comes_first_has_his_turn_first_and_no_more_than_allowed_have_theirs() -> None:
    turns, numbers = Turns(processor=lambda: time.monotonic() * 2), count()
    order: list[int] = []
    having, most = 0, 0
    lock = threading.Lock()
    gate = [threading.Event() for _ in range(FEWEST)]

    def work(number: int) -> None:
        nonlocal having, most
        with turns:
            with lock:
                having += 1
                most = max(most, having)
                order.append(number)
            if number < FEWEST:
                gate[number].wait(10)
            with lock:
                having -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3 * FEWEST)]
    for expected, thread in enumerate(threads):
        thread.start()
        in_line = max(0, expected + 1 - FEWEST)
        while len(order) < min(expected + 1, FEWEST) or len(turns._line) < in_line:
            assert next(numbers) < 1_000_000
            time.sleep(0)
    gate[0].set()
    for thread in (threads[0], *threads[FEWEST:]):
        thread.join(10)
    for event in gate:
        event.set()
    for thread in threads:
        thread.join(10)
    assert order[FEWEST:] == list(range(FEWEST, 3 * FEWEST))
    assert most == FEWEST


def test_an_error_gives_the_turn_back() -> None:
    turns = Turns()
    for _ in range(2 * MOST):
        with pytest.raises(OSError, match="broken"), turns:
            raise OSError("broken")
