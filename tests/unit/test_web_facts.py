"""What stands beside the machines: versions in use, pools, and what is said before all else."""

import asyncio
from ipaddress import IPv4Address
from pathlib import Path

from config.model import Farm, Image, Node, Pool
from config.observing import Web
from dhcp.options import MessageType
from dhcp.others import Given, Other
from pxeboot.reloading.state import Reloads
from pxeboot.selftest.findings import Finding
from pxeboot.stuck import State
from pxeboot.web.facts import Sources, gather, images, pools
from pxeboot.web.notices import MOST, notices
from pxeboot.web.rows import Row
from pxeboot.web.static import Static
from pxeboot.web.templates import Templates, marked

NEW, OLD, OTHER = "aa" * 32, "bb" * 32, "cc" * 32


def farm() -> Farm:
    def node(name: str, number: int) -> Node:
        return Node(name=name, macs=(f"52:54:00:00:00:{number:02x}",), ip=IPv4Address("10.77.0.10") + number)

    return Farm(
        images={"node": Image(path=Path("/i/node")), "gpu": Image(path=Path("/i/gpu"))},
        pools=(
            Pool(name="workers", image="node", nodes=(node("m1", 1), node("m2", 2))),
            Pool(name="gpus", image="gpu", root="nbd", nodes=(node("g1", 3),)),
        ),
    )


ROWS = [
    Row("m1", State.UP, "workers", image_id=NEW),
    Row("m2", State.UP, "workers", image_id=OLD),
    Row("m4", State.STUCK, "workers", image_id=OLD),  # it may never run it
    Row("m3", State.UP, "workers", image_id=OTHER),
    Row("g1", State.UP, "gpus", image_id=NEW),  # it was told to boot another image than its pool's
    Row("g2", State.QUIET, "gpus", image_id=OTHER),
    Row("stranger", State.UP, "", image_id=OLD),
]


def test_versions_in_use_are_counted_with_the_image_that_they_are_of() -> None:
    node, gpu = images(farm(), {"node": NEW, "gpu": "!no image here"}, ROWS)
    assert [(one.short, one.machines, one.is_current) for one in node.versions] == [
        ("aa" * 6, 2, True),
        ("bb" * 6, 1, False),
        ("cc" * 6, 1, False),
    ]
    assert (node.current, node.known) == (2, 4)
    assert (gpu.trouble, gpu.versions) == ("no image here", [])


def test_a_pool_says_how_many_of_its_machines_are_up() -> None:
    workers, gpus = pools(farm(), ROWS)
    assert (workers.up, workers.stuck, workers.machines) == (3, 1, 4)
    assert (gpus.image, gpus.root, gpus.up, gpus.machines) == ("gpu", "nbd", 1, 2)


def test_images_that_cannot_be_looked_at_are_said_to_be_so_and_the_rest_is_there() -> None:
    async def hangs(_: object) -> dict[str, str]:
        raise TimeoutError

    facts = asyncio.run(gather(Sources(farm=farm, looked_up=hangs), ROWS))
    assert all("does not answer" in image.trouble for image in facts.images)
    assert len(facts.pools) == 2


def rogue() -> Other:
    other = Other(IPv4Address("10.77.0.2"), "52:54:00:00:00:ff", "eth1", 0, 5, ours=1)
    other.address = Given(MessageType.DHCPOFFER, "52:54:00:00:00:01", "m1", IPv4Address("10.77.0.99"), 600)
    return other


def test_what_keeps_the_farm_from_booting_is_said_first() -> None:
    reloads = Reloads(Path("/etc/pxeboot/farm.yaml").as_posix(), 0)
    reloads.refuse([f"farm.yaml:{line}:1: wrong" for line in range(20)], 5)
    found = notices(
        [Finding("error", "UDP port 67", "dnsmasq has UDP port 67", "stop it"), Finding("note", "clock", "is set")],
        reloads,
        {"controller": {"connected": False, "since_s": 40, "trouble": "no such file"}},
        ["no address is left of 10.77.0.1-10.77.0.9"],
        [rogue()],
        100,
    )
    said = [notice.what for notice in found]
    assert [words.split()[0] for words in said] == ["The", "DHCP:", "dnsmasq", "The", "Another"]
    assert len(found[0].why) == MOST + 1
    assert "1 min" in said[3]
    assert found[2].remedy == "stop it"
    assert all(notice.is_error for notice in found)


def test_nothing_is_said_of_what_is_as_it_should_be() -> None:
    connected = {"controller": {"connected": True, "since_s": 40, "trouble": None}}
    assert notices([], Reloads(None, 0), connected, [], [], 100) == []


def test_what_is_to_be_typed_is_marked_and_nothing_else_gets_through() -> None:
    assert marked("run `a <b>` & go") == "run <code>a &lt;b&gt;</code> &amp; go"


def test_the_page_of_a_farm_escapes_whatever_machines_say() -> None:
    templates = Templates(Static())
    row = Row("m1", State.STUCK, words="<b>", look="`<i>`", detail="<script>", refused="<u>", note="<s>", intent="<a>")
    html = templates.macros("parts.html").row(row, "")
    for word in ("<b>", "<i>", "<script>", "<u>", "<s>", "<a>"):
        assert word not in html
        assert word.replace("<", "&lt;").replace(">", "&gt;") in html


def test_people_who_may_change_something_are_led_to_where_they_can() -> None:
    facts = asyncio.run(gather(Sources(farm=farm), ROWS))
    side = Templates(Static()).macros("parts.html").side
    assert "pools/workers" not in side(facts, 0)
    changeable = farm().model_copy(update={"web": Web(users=Path("/etc/pxeboot/users"))})
    facts = asyncio.run(gather(Sources(farm=lambda: changeable), ROWS))
    assert "pools/workers" in side(facts, 0)
