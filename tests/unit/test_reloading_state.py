"""What people are told of the farm's file."""

from pxeboot.reloading.state import Reloads


def test_a_refusal_is_told_once_and_forgotten_when_the_file_is_right() -> None:
    reloads = Reloads("/etc/farm.yaml", at_s=1.0)
    assert reloads.refuse(["farm.yaml:1:1: wrong"], at_s=5.0)
    assert not reloads.refuse(["farm.yaml:1:1: wrong"], at_s=6.0)
    assert (reloads.generation, reloads.at_s, reloads.refused_s) == (1, 1.0, 5.0)
    assert reloads.refuse(["farm.yaml:2:1: wrong"], at_s=7.0)
    reloads.taken(9.0, ["server.http_port: 81 in the file, 80 until a restart"])
    assert reloads.as_json() == {
        "path": "/etc/farm.yaml",
        "generation": 2,
        "loaded_s": 9.0,
        "refused": None,
        "refused_s": None,
        "needs_restart": ["server.http_port: 81 in the file, 80 until a restart"],
    }


def test_a_file_that_says_what_is_served_is_no_other_generation() -> None:
    reloads = Reloads("/etc/farm.yaml", at_s=1.0)
    reloads.refuse(["farm.yaml:1:1: wrong"], at_s=5.0)
    reloads.unchanged([])
    assert (reloads.generation, reloads.at_s, reloads.refused) == (1, 1.0, None)
