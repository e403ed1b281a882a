"""controller.lease_object: a shared lease as an object of the API."""

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model import Farm
from dhcp.leases import NEVER, SOMEBODY, Lease, State
from dhcp.shared_wire import Entry
from pxeboot.controller.lease_object import SUBNET, entry_of, object_of
from pxeboot.kube.leases import decode_lease, encode_lease

NOW = 1_790_000_000.0
FARM = Farm.model_validate({"dhcp": {"subnets": [{"subnet": "10.28.0.0/16"}]}})
ENTRY = Entry(Lease(IPv4Address("10.28.72.10"), "52:54:00:12:34:56", int(NOW) + 600), int(NOW) + 4200, "7.abc")
TIMES = st.integers(0, 1 << 33) | st.just(NEVER)


@given(
    client=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=600),
    expires=TIMES,
    until=TIMES,
    state=st.sampled_from(State),
)
def test_an_entry_is_read_as_it_was_written(client: str, expires: int, until: int, state: State) -> None:
    entry = Entry(Lease(IPv4Address("10.28.72.10"), client, expires, state, "02:00:00:00:00:01"), until, "7.abc")
    raw = encode_lease(object_of(entry, NOW, "7.abc", FARM), "pxeboot")
    least = expires if state is State.BOUND else 0
    assert entry_of(decode_lease(raw)) == replace(entry, until=max(until, least))
    assert 1 <= raw["spec"]["leaseDurationSeconds"] < 1 << 31
    assert len(raw["spec"]["holderIdentity"]) <= 128


def test_a_person_sees_who_has_the_address_and_where() -> None:
    made = object_of(ENTRY, NOW, "", FARM)
    assert (made.name, made.holder, made.duration_s) == ("dhcp-10-28-72-10", "52:54:00:12:34:56", 4200)
    assert made.labels[SUBNET] == "10.28.0.0-16"
    assert made.annotations["pxeboot/expires"] == "2026-09-21T14:23:20Z"


def test_a_version_is_of_one_object_and_not_of_its_name() -> None:
    """A PUT of a Lease that is gone makes it again, unless its uid is given too."""
    made = object_of(ENTRY, NOW, "7.abc", FARM)
    assert (made.resource_version, made.uid) == ("7", "abc")


@pytest.mark.parametrize("annotations", [{}, {"pxeboot/client": "x"}, {"pxeboot/until": "soon"}])
def test_an_object_that_cannot_be_read_keeps_its_address_from_everybody(annotations: dict[str, str]) -> None:
    known = object_of(ENTRY, NOW, "7.abc", FARM)
    changed = {} if not annotations else dict(known.annotations) | annotations
    if annotations == {"pxeboot/client": "x"}:
        changed = annotations
    found = entry_of(replace(known, annotations=changed))
    assert found is not None
    assert (found.lease.client, found.lease.state, found.until) == (SOMEBODY, State.DECLINED, NEVER)


def test_an_object_whose_time_somebody_made_shorter_still_keeps_its_address_while_its_client_has_it() -> None:
    known = object_of(ENTRY, NOW, "7.abc", FARM)
    found = entry_of(replace(known, annotations=dict(known.annotations) | {"pxeboot/until": "2026-09-21T14:00:00Z"}))
    assert found is not None
    assert found.until == ENTRY.lease.expires


def test_a_quarantine_of_thousands_of_years_can_be_written() -> None:
    """It could not, and with it no lease was shared any more."""
    declined = Lease(IPv4Address("10.28.72.10"), "x", int(NOW) + 10**12, State.DECLINED)
    found = entry_of(object_of(Entry(declined, declined.expires), NOW, "", FARM))
    assert found is not None
    assert found.until == found.lease.expires > NOW + 10**11


@pytest.mark.parametrize("name", ["pxeboot-controller", "10-28-72-10", "dhcp-10.28.72.10"])
def test_an_object_of_another_name_is_none_of_ours(name: str) -> None:
    assert entry_of(replace(object_of(ENTRY, NOW, "", FARM), name=name)) is None
