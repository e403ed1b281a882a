from ipaddress import IPv4Address

from config.marks import Marks
from config.model import Farm
from dhcp.actions import Datagram
from dhcp.engine import Server
from dhcp.plan import plan
from dhcp.replies import Destination, Send
from dhcp.request import Arrival
from pxeboot.answered import Answer
from pxeboot.explain import packets
from pxeboot.intents import Boot, Intent, Origin
from pxeboot.probe.client import Kind, architecture
from pxeboot.web.ground import Known
from pxeboot.web.reply import Reply, explain

MAC = "52:54:00:00:00:01"
OURS = IPv4Address("10.0.0.1")
FILE = """\
dhcp:
  subnets:
    - subnet: 10.0.0.0/24
      routers: [10.0.0.254]
pools:
  - name: workers
    image: node
    nodes:
      - name: m1
        macs: ["52:54:00:00:00:01"]
        ip: 10.0.0.10
"""


def farm(**subnet: object) -> Farm:
    node = {"name": "m1", "macs": [MAC], "ip": "10.0.0.10"}
    return Farm.model_validate({
        "dhcp": {"subnets": [{"subnet": "10.0.0.0/24", "routers": ["10.0.0.254"]} | subnet]},
        "images": {"node": {"path": "/images/node"}},
        "pools": [{"name": "workers", "image": "node", "nodes": [node]}],
    })  # fmt: skip


def known(of: Farm, intent: Intent = Intent(Boot.NETBOOT)) -> Known:  # noqa: B008
    return Known(of, plan(of), Marks("/etc/pxeboot/farm.yaml", FILE), "m1", intent, (), OURS, 1000.0)


def answered(of: Farm) -> Answer:
    """Return what a server of `of` really answered the firmware of m1."""
    sender = packets.Sender(bytes.fromhex(MAC.replace(":", "")), Kind.PXE, architecture("uefi-x64", Kind.PXE))
    message = packets.discover(sender)
    arrival = Arrival(OURS, source_port=68)
    actions = Server(plan(of), (), 900.0).receive(message, arrival, 900.0)
    (send,) = [action for action in actions if isinstance(action, Send)]
    reply = Datagram(send.pack().data, Destination(IPv4Address("255.255.255.255"), 68), 1)
    return Answer(message.encode(), arrival, reply, 900.0)


def part(reply: Reply | None, label: str) -> tuple[str, str, str]:
    """Return the value of a part, where it is configured, and what it would be now."""
    assert reply is not None
    (found,) = [one for one in reply.parts if one.label == label]
    return found.value, found.where, found.now


def test_what_was_sent_is_told_with_the_line_of_each_part() -> None:
    reply = explain(known(farm()), answered(farm()), MAC)
    assert reply is not None
    assert (reply.real, reply.kind, reply.at_s, reply.to) == (True, "DHCPOFFER", 900.0, "everybody (broadcast)")
    assert part(reply, "yiaddr") == ("10.0.0.10", "farm.yaml:11", "")
    assert part(reply, "3 routers") == ("10.0.0.254", "farm.yaml:4", "")
    assert part(reply, "file")[0] == "'grub/x86_64-efi/core.efi'"
    assert {one.label for one in reply.plain} >= {"op", "xid", "chaddr"}
    assert reply.ahead.steps
    assert "10.0.0.0/24" in reply.network


def test_what_would_be_otherwise_now_is_told_beside_what_was_sent() -> None:
    changed = farm(routers=["10.0.0.253"], domain_name_servers=["10.0.0.53"])
    reply = explain(known(changed), answered(farm()), MAC)
    assert part(reply, "3 routers") == ("10.0.0.254", "farm.yaml:4", "10.0.0.253")
    assert part(reply, "6 domain-name-servers")[::2] == ("not sent", "10.0.0.53")
    gone = explain(known(farm(routers=[])), answered(farm()), MAC)
    assert part(gone, "3 routers") == ("10.0.0.254", "", "none")


def test_who_would_get_no_answer_now_is_still_told_what_it_got() -> None:
    elsewhere = Farm.model_validate({"dhcp": {"subnets": [{"subnet": "10.9.0.0/24"}]}})
    reply = explain(known(elsewhere), answered(farm()), MAC)
    assert part(reply, "yiaddr")[0] == "10.0.0.10"
    assert part(reply, "3 routers")[0] == "10.0.0.254"
    assert reply is not None
    assert reply.ahead.problem


def test_a_machine_that_has_not_asked_is_told_what_it_would_get() -> None:
    reply = explain(known(farm()), None, MAC)
    assert reply is not None
    assert not reply.real
    assert reply.asked.startswith("UEFI x64 firmware (PXE) asks")
    assert part(reply, "yiaddr")[0] == "10.0.0.10"
    assert explain(known(farm()), None, "") is None


def test_what_was_said_at_run_time_counts() -> None:
    intent = Intent(Boot.LOCAL, Origin.PAGE, 5.0, "anna", "other")
    assert explain(known(farm(), intent), None, MAC) is not None
