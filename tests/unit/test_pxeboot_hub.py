"""The farm is swapped whole."""

from contextlib import ExitStack
from pathlib import Path

import pytest

import dhcp.plan
import dhcp.store
from config.model import Farm
from pxeboot.bootfiles.machine import Farmhouse
from pxeboot.exports.pin_store import PinStore
from pxeboot.hub import Hub
from pxeboot.intent_store import IntentStore
from pxeboot.joining.store import BootStore
from pxeboot.nbdkit.second import Second


def farm_of(state: Path, **more: object) -> Farm:
    return Farm.model_validate({"server": {"interfaces": ["eth1"], "state": state}, **more})


def test_a_farm_counts_as_served_when_all_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = farm_of(tmp_path), farm_of(tmp_path, tftp={"windowsize": 3})

    def fails(_: Farm) -> None:
        raise KeyError("a bug")

    with ExitStack() as cleanup:
        leases = dhcp.store.LeaseStore.open(tmp_path / "leases")
        cleanup.callback(leases.close)
        pins, boots = PinStore(tmp_path / "pins"), BootStore(tmp_path / "boots")
        cleanup.callback(pins.close)
        cleanup.callback(boots.close)
        hub = Hub(before, leases, IntentStore(tmp_path / "intents", before), pins, boots, Second(before))
        with monkeypatch.context() as broken:
            broken.setattr(hub.door, "swap", fails)
            with pytest.raises(KeyError):
                hub.swap(after, dhcp.plan.plan(after), Farmhouse(after))
        assert hub.farm is before, "else it would be taken for served, and never be tried again"
        hub.swap(after, dhcp.plan.plan(after), Farmhouse(after))
        assert hub.farm is after
