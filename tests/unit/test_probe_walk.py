import pytest

from pxeboot.bootfiles import grubcfg
from pxeboot.probe import menu, words
from pxeboot.probe.walk import Grade, Hop, as_json
from pxeboot.probe.web import Stuck

MENU = """\
# made by pxeboot for m1; a new one at every boot
insmod http
echo "pxeboot: m1 loads its kernel"
if linux (http,10.0.0.1:8080)/images/ab12/vmlinuz 'boot=pxeboot' 'pxeboot.image=ab12' 'it'\\''s=odd'; then
  echo "pxeboot: m1 loads its configuration and initrd"
  if initrd (http,10.0.0.1:8080)/images/ab12/01-52/secret/node.cpio $from/images/ab12/initrd.img; then
    boot
  fi
fi
"""


def test_a_menu_is_read_as_grub_does() -> None:
    found = menu.read(MENU)
    assert found.kernel == "images/ab12/vmlinuz"
    assert found.initrds == ("images/ab12/01-52/secret/node.cpio", "images/ab12/initrd.img")
    assert found.words == ("boot=pxeboot", "pxeboot.image=ab12", "it's=odd")
    assert found.image == "ab12"
    assert found.says == ("pxeboot: m1 loads its kernel", "pxeboot: m1 loads its configuration and initrd")


@pytest.mark.parametrize("text", ["", "'", "linux", grubcfg.nothing("52:54:00:00:00:01"), "menuentry 'x' {\n}\n"])
def test_a_menu_that_boots_nothing_has_no_kernel(text: str) -> None:
    assert menu.read(text).kernel == ""
    assert menu.read(text).image == ""


def test_a_menu_of_a_machine_that_is_not_listed_says_so() -> None:
    said = menu.read(grubcfg.nothing("52:54:00:00:00:01")).says
    assert said[0] == "pxeboot: this machine (52:54:00:00:00:01) has nothing to boot here."


def test_to_be_sent_to_its_disk_is_no_fault_and_to_be_refused_is_one() -> None:
    local = menu.read(grubcfg.local("m1", "10.77.0.1", "pxeboot node"))
    assert (local.kernel, local.boots_disk) == ("", True)
    assert local.reason == "pxeboot: m1 goes on with its own disk: its boot intent is local (pxeboot node)"
    refused = menu.read(grubcfg.refused("m1", "pxeboot node"))
    assert (refused.kernel, refused.boots_disk) == ("", False)
    assert refused.reason == "pxeboot: m1 is refused: its boot intent is refuse (pxeboot node)."
    assert not menu.read(MENU).boots_disk


@pytest.mark.parametrize(
    ("loader", "server"),
    [
        (b"MZ..." + grubcfg.first("10.77.0.1").encode(), "10.77.0.1"),
        (b"MZ..." + grubcfg.first("10.77.0.1:8080").encode(), "10.77.0.1:8080"),
        (b"compressed", None),
        (b"(http,example.org)", None),
    ],
)
def test_the_server_that_a_loader_goes_on_from_is_in_it(loader: bytes, server: str | None) -> None:
    assert menu.server_in(loader) == server


def test_a_step_is_as_bad_as_the_worst_of_it() -> None:
    hop = Hop("kernel")
    grades = [hop.grade]
    hop.notes.append("slow")
    grades.append(hop.grade)
    hop.skipped = True
    grades.append(hop.grade)
    hop.wrong("gone", "bring it back")
    assert [*grades, hop.grade] == [Grade.FINE, Grade.NOTE, Grade.SKIPPED, Grade.WRONG]
    assert as_json([hop]) == [{
        "step": "kernel", "result": "wrong", "took_ms": None, "detail": "", "notes": ["slow"],
        "problems": [{"what": "gone", "remedy": "bring it back"}],
    }]  # fmt: skip


@pytest.mark.parametrize("what", Stuck)
def test_every_way_to_be_stuck_has_words_and_a_remedy(what: Stuck) -> None:
    said, remedy = words.stuck(what, "HTTP", "10.77.0.1", 80)
    assert "10.77.0.1" in said
    assert remedy


@pytest.mark.parametrize(
    ("interface", "remedied"),
    [("eth0", "an access port of the right VLAN"), ("eth0.28", "the VLAN of this interface")],
)
def test_that_nobody_answers_has_a_reason(interface: str, remedied: str) -> None:
    what, remedy = words.no_offer(interface)
    assert "no DHCP server hears us" in what
    assert remedied in remedy


def test_the_server_itself_says_what_to_type_where() -> None:
    assert [command for command, _ in words.Here("").instead] == [
        "pxeboot probe", "pxeboot explain MAC", "pxeboot check --here",
    ]  # fmt: skip
    assert [command for command, _ in words.Here("", ours=False).instead] == ["pxeboot probe"]
    assert "`pxeboot status`" in words.Here("").others(["10.0.0.2 (02:00:00:00:00:01)"])
