"""Which downloads hardly move: dead machines among live ones, and a line that is slow for all."""

from ipaddress import IPv4Address
from math import inf

import pytest

from httpimage.admission import CRAWLING, Admission, Admitted
from httpimage.crawling import CRAWL, CRAWL_S, Motion, crawlers

IMAGE = 650_000_000
SLOW = CRAWL / 2
SLOTS = 8


def after(*rates: float, share: float = inf, is_busy: bool = True) -> Motion:
    """How one moves that went at each of `rates` for so long that it would be said to crawl."""
    motion = Motion()
    for rate in rates:
        motion.seen(rate, share, CRAWL_S, is_busy=is_busy)
    return motion


@pytest.mark.parametrize(
    ("motions", "found"),
    [
        pytest.param([after(CRAWL), after(SLOW)], [1], id="one-crawls-while-another-moves"),
        pytest.param([after(SLOW), after(SLOW)], [], id="all-crawl"),
        pytest.param([after(SLOW), after(0)], [1], id="all-crawl-but-one-that-stands"),
        pytest.param([after(0)], [0], id="the-only-one-stands"),
        pytest.param([after(CRAWL), after(SLOW, CRAWL)], [], id="one-moves-again"),
        pytest.param([after(CRAWL, SLOW), after(SLOW, SLOW)], [], id="the-other-moved-long-ago"),
        pytest.param([after(CRAWL), after(0, is_busy=False)], [], id="our-disk-is-slow"),
        pytest.param([after(CRAWL), after(SLOW, share=CRAWL)], [], id="its-share-is-low"),
        pytest.param([after(CRAWL), Motion()], [], id="one-began-just-now"),
    ],
)
def test_those_that_crawl_while_others_move_and_those_that_stand_are_found(
    motions: list[Motion], found: list[int]
) -> None:
    assert crawlers(dict(enumerate(motions))) == found


@pytest.mark.parametrize(
    ("line", "dead", "crawling"),
    [
        pytest.param(SLOTS * SLOW, 0, 0, id="a-slow-line"),
        pytest.param(SLOTS * CRAWL * 2, 0, 0, id="a-line-on-which-they-move"),
        pytest.param(SLOTS * CRAWL * 2, 2, 2, id="dead-machines"),
        pytest.param(SLOTS * CRAWL * 2, SLOTS, SLOTS // CRAWLING, id="many-dead-machines"),
        pytest.param(0, 0, SLOTS // CRAWLING, id="a-line-that-is-cut"),
    ],
)
def test_the_gate_opens_no_further_on_a_slow_line(line: float, dead: int, crawling: int) -> None:
    """Machines without end share a line for some minutes; the first `dead` of them take nothing."""
    door = Admission(SLOTS)
    motions: dict[int, Motion] = {}
    takes: dict[int, bool] = {}
    left = [IPv4Address("10.28.0.0") + number for number in range(3 * SLOTS)]
    for second in range(0, 240, 4):
        for machine in list(left):
            answer = door.ask(machine, IMAGE, float(second))
            if isinstance(answer, Admitted):
                motions[answer.turn], takes[answer.turn] = Motion(), len(motions) >= dead
                left.remove(machine)
        rate = line / max(1, sum(takes.values()))
        for turn, motion in motions.items():
            motion.seen(rate if takes[turn] else 0.0, inf, 4.0, is_busy=True)
        door.crawl(crawlers(motions))
    assert (door.running, door.crawling) == (SLOTS, crawling)
