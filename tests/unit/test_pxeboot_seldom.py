from pxeboot.seldom import EVERY_S, Seldom


def test_each_thing_is_said_once_a_minute() -> None:
    now_s = [0.0]
    seldom = Seldom(lambda: now_s[0])
    assert seldom("m1", "no image")
    assert not seldom("m1", "no image")
    assert seldom("m2", "no image")
    assert seldom("m1", "no join command")
    now_s[0] = EVERY_S - 0.1
    assert not seldom("m1", "no image")
    now_s[0] = EVERY_S
    assert seldom("m1", "no image")
    assert not seldom("m1", "no image")


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    seldom = Seldom(lambda: 0.0, most_keys=2)
    assert all(seldom(name) for name in "abc")
    assert not seldom("b")
    assert not seldom("c")
    assert seldom("a")
