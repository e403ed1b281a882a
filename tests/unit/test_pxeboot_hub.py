"""The farm is swapped whole."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

import dhcp.plan
import dhcp.store
from config.events import Event, Stage
from config.model import Farm
from dhcp.leases import NEVER, Lease
from pxeboot.api.names import names_of
from pxeboot.bootfiles.machine import Farmhouse
from pxeboot.exports.pin_store import PinStore
from pxeboot.exports.pins import Pin
from pxeboot.hub import Hub
from pxeboot.intent_store import IntentStore
from pxeboot.intents import Boot
from pxeboot.joining.store import BootStore
from pxeboot.nbdkit.second import Second


def farm_of(state: Path, **more: object) -> Farm:
    return Farm.model_validate({"server": {"interfaces": ["eth1"], "state": state}, **more})


@contextmanager
def hub_of(farm: Farm, folder: Path) -> Iterator[Hub]:
    """A hub that serves nobody; its records are in `folder`."""
    with ExitStack() as cleanup:
        leases = dhcp.store.LeaseStore.open(folder / "leases")
        cleanup.callback(leases.close)
        pins, boots = PinStore(folder / "pins"), BootStore(folder / "boots")
        cleanup.callback(pins.close)
        cleanup.callback(boots.close)
        yield Hub(farm, leases, IntentStore(folder / "intents", farm), pins, boots, Second(farm))


def test_a_farm_counts_as_served_when_all_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = farm_of(tmp_path), farm_of(tmp_path, tftp={"windowsize": 3})

    def fails(_: Farm) -> None:
        raise KeyError("a bug")

    with hub_of(before, tmp_path) as hub:
        with monkeypatch.context() as broken:
            broken.setattr(hub.door, "swap", fails)
            with pytest.raises(KeyError):
                hub.swap(after, dhcp.plan.plan(after), Farmhouse(after))
        assert hub.farm is before, "else it would be taken for served, and never be tried again"
        hub.swap(after, dhcp.plan.plan(after), Farmhouse(after))
        assert hub.farm is after


def test_dhcp_knows_which_machines_only_our_grub_may_start(tmp_path: Path) -> None:
    farm = farm_of(tmp_path)
    IntentStore(tmp_path / "intents", farm).say(["node-525400000001"], Boot.LOCAL)
    with hub_of(farm, tmp_path) as hub:
        assert hub.dhcp.steered() == {"node-525400000001"}


def test_a_machine_that_was_heard_of_is_found_by_name_mac_and_address(tmp_path: Path) -> None:
    nodes = [
        {"name": "m1", "macs": ["52:54:00:00:00:01"], "ip": "10.0.0.1"},
        {"name": "m2", "macs": ["52:54:00:00:00:02"], "ip": "10.0.0.2"},
    ]
    image = {"node": {"path": "/images/node"}}
    farm = farm_of(
        tmp_path,
        images=image,
        pools=[{"name": "a", "image": "node", "nodes": nodes}],
        dhcp={"subnets": [{"subnet": "10.0.0.0/24"}]},
    )
    with hub_of(farm, tmp_path) as hub:
        hub.report(Event("52:54:00:00:00:01", Stage.DISCOVER, ""))
        hub.report(Event("52:54:00:00:00:99", Stage.DISCOVER, ""))
        hub.timeline.get("node-525400000099").ip = "10.0.0.99"  # type: ignore[union-attr]
        found = {word: hub.find(word) for word in ("m1", "525400-000001", "10.0.0.1", "node-525400000001")}
        assert all(machine is hub.timeline.get("m1") for machine in found.values()), found
        for word in ("5254.0000.0099", "NODE-525400000099", "10.0.0.99"):
            assert hub.find(word) is hub.timeline.get("node-525400000099")
        silent = hub.find("10.0.0.2")
        assert isinstance(silent, dict)
        assert str(silent["error"]).startswith("m2 is in the farm's file, and was not heard of since the daemon began")
        assert hub.find("m3") == {"error": "no machine 'm3' is in the farm's file or was heard of", "unknown": "m3"}
        assert hub.who(IPv4Address("10.0.0.99")) is None, "its lease is over, and it is found all the same"
        offered = names_of(hub.farm, [(machine.name, machine.mac) for machine in hub.timeline])
        assert offered["machines"] == ["m1", "m2", "node-525400000099"]
        assert {"52:54:00:00:00:99": "node-525400000099", "52:54:00:00:00:02": "m2"}.items() <= offered["macs"].items()  # type: ignore[attr-defined]


def test_a_machine_that_is_not_listed_has_no_part_of_a_listed_ones_disk(tmp_path: Path) -> None:
    """Its MAC makes the name of a listed machine, whose card is another by now."""
    mac, there, own = "52:54:00:00:00:99", IPv4Address("10.0.0.200"), IPv4Address("10.0.0.1")
    nodes = [{"name": "node-525400000099", "macs": ["52:54:00:00:00:01"], "ip": str(own)}]
    farm = farm_of(
        tmp_path,
        images={"node": {"path": "/images/node"}},
        pools=[{"name": "a", "image": "node", "nodes": nodes}],
        dhcp={"subnets": [{"subnet": "10.0.0.0/24", "pool": "10.0.0.200-10.0.0.210", "unknown": "a"}]},
    )
    with hub_of(farm, tmp_path) as hub:
        hub.dhcp.leases.remember(Lease(there, mac, NEVER))
        hub.roots.pins.put(Pin("node-525400000099", "node", "ab" * 32, own, 5.0)).result(10)
        assert hub.machine_name(own) == hub.roots.whose(own) == "node-525400000099"
        assert hub.machine_name(there) == hub.roots.whose(there) == "node-525400000099 (not listed)"
        # It booted as that one, and the file was edited since: it goes on reading its root.
        hub.roots.pins.put(Pin("node-525400000099", "node", "ab" * 32, there, 6.0)).result(10)
        assert hub.roots.whose(there) == "node-525400000099"
