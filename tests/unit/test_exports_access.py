"""What an export's name means for whoever asks."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from config.exports import NbdTls
from config.model import Farm
from pxeboot.exports.access import Named, Nothing, Own, Version, needs_tls, wanted
from pxeboot.exports.pins import Pin

PIN = Pin("m1", "node", "ab" * 32, IPv4Address("10.0.0.1"), 5.0)
ONE: dict[str, Any] = {"images": {"node": {"path": "/images/node"}}}
TWO: dict[str, Any] = {"images": {"node": {"path": "/images/node"}, "db": {"path": "/images/db"}}}


@pytest.mark.parametrize(
    ("farm", "name", "found"),
    [
        (ONE, "node", Named("node")),
        (ONE, "", Named("node")),
        (TWO, "", None),
        (TWO | {"nbd": {"default": "db"}}, "", Named("db")),
        (ONE | {"nbd": {"default": "node"}}, "", Named("node")),
        (ONE, "ab" * 32, Version("ab" * 32)),
        (ONE, "AB" * 32, None),
        (ONE, "ab" * 31, None),
        (ONE, "node/m1", Own(PIN)),
        (ONE, "node/m2", None),
        (ONE, "node/", None),
        (ONE, "node/m1/", None),
        (ONE, "node/M1", None),
        (ONE, "nodes", None),
        (ONE, "../node", None),
        (ONE, "node\0", None),
        (ONE, "n" * 4096, None),
    ],
)
def test_a_name_means_one_thing(farm: dict[str, Any], name: str, found: object) -> None:
    got = wanted(name, Farm.model_validate(farm), "m1", PIN)
    assert isinstance(got, Nothing) if found is None else got == found


@pytest.mark.parametrize("machine", [None, "m2"])
def test_the_root_of_a_machine_is_for_nobody_else(machine: str | None) -> None:
    farm = Farm.model_validate(ONE)
    of_others = wanted("node/m1", farm, machine, None)
    assert isinstance(of_others, Nothing)
    assert of_others == wanted("node/nobody", farm, machine, None), "nobody learns who there is"


def test_a_machine_that_was_told_of_no_boot_has_no_root() -> None:
    assert isinstance(wanted("node/m1", Farm.model_validate(ONE), "m1", None), Nothing)


@pytest.mark.parametrize(
    ("mode", "only", "names", "needed"),
    [
        (None, (), (), False),
        ("required", (), ("node",), True),
        ("offered", (), ("node",), False),
        ("offered", (), (), False),
        ("offered", ("db",), ("node",), False),
        ("offered", ("db",), ("db",), True),
        ("offered", ("db",), ("db", "node"), False),
        ("offered", ("db",), (), True),
        ("offered", ("db", "node"), ("db", "node"), True),
    ],
)
def test_tls_is_needed_where_the_farm_says_so(
    mode: Any, only: tuple[str, ...], names: tuple[str, ...], needed: bool
) -> None:
    tls = None if mode is None else NbdTls.model_validate(
        {"certificate": "/c", "key": "/k", "mode": mode, "only": only}
    )  # fmt: skip
    assert needs_tls(tls, names) is needed
