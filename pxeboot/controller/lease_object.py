"""A shared DHCP lease as an object of the API.

    $ kubectl -n pxeboot get leases -l app.kubernetes.io/component=dhcp
    NAME               HOLDER              AGE
    dhcp-10-28-72-10   52:54:00:12:34:56   3m

spec.renewTime and leaseDurationSeconds say for how long nobody else may have the address, annotations what its client
was told.
"""

import hashlib
from ipaddress import AddressValueError, IPv4Address

from config.model import Farm
from dhcp.leases import NEVER, SOMEBODY, Lease, State
from dhcp.shared_wire import Entry, is_name
from pxeboot.controller.token import rfc3339
from pxeboot.kube import leases as kube
from pxeboot.kube.times import seconds

LABELS = {"app.kubernetes.io/managed-by": "pxeboot", "app.kubernetes.io/component": "dhcp"}
SELECTOR = ",".join(f"{key}={value}" for key, value in LABELS.items())
SUBNET = "pxeboot/subnet"
CLIENT, MAC, STATE, EXPIRES, UNTIL = (f"pxeboot/{name}" for name in ("client", "mac", "state", "expires", "until"))
_PREFIX = "dhcp-"
_LONGEST_HOLDER = 128
_LONGEST_S = (1 << 31) - 1
"""What leaseDurationSeconds can hold."""
_LATEST = 253_402_300_799
"""The last second that a Time can tell, in the year 9999."""


def name_of(address: IPv4Address) -> str:
    """Return the name of an address's object.

    >>> name_of(IPv4Address("10.28.72.10"))
    'dhcp-10-28-72-10'
    """
    return _PREFIX + str(address).replace(".", "-")


def object_of(entry: Entry, now: float, version: str, farm: Farm) -> kube.Lease:
    """Return the object to be sent, in place of `version`."""
    lease = entry.lease
    number, _, uid = version.partition(".")
    subnet = next((subnet.subnet for subnet in farm.dhcp.subnets if lease.address in subnet.subnet), None)
    holder = lease.client
    if len(holder) > _LONGEST_HOLDER:
        holder = "sha256:" + hashlib.sha256(holder.encode()).hexdigest()
    return kube.Lease(
        name=name_of(lease.address),
        holder=holder,
        duration_s=min(_LONGEST_S, max(1, entry.until - int(now))),
        renewed_s=now,
        labels=LABELS | ({SUBNET: str(subnet).replace("/", "-")} if subnet is not None else {}),
        annotations={
            CLIENT: lease.client,
            MAC: lease.mac,
            STATE: lease.state.value,
            EXPIRES: _text(lease.expires),
            UNTIL: _text(entry.until),
        },
        resource_version=number,
        uid=uid,
    )


def entry_of(found: kube.Lease) -> Entry | None:
    """Return what an object says. None if its name is no address's.

    One that cannot be read keeps its address from everybody, for ever: somebody meant something by it.
    """
    try:
        address = IPv4Address(found.name.removeprefix(_PREFIX).replace("-", "."))
    except AddressValueError:
        return None
    if name_of(address) != found.name:  # without our prefix: of two objects of one address this is not the one
        return None
    said = found.annotations
    try:
        client, mac = said[CLIENT], said[MAC]
        if not is_name(client) or not is_name(mac):
            raise ValueError("a client is one word")
        lease = Lease(address, client, _time(said[EXPIRES]), State(said[STATE]), mac)
        until = _time(said[UNTIL])
        # Its client was told so much, whatever somebody made of the object.
        return Entry(lease, max(until, lease.expires) if lease.state is State.BOUND else until, version_of(found))
    except (KeyError, ValueError):
        return Entry(Lease(address, SOMEBODY, NEVER, State.DECLINED), NEVER, version_of(found))


def version_of(found: kube.Lease) -> str:
    """Return which state of which object it is.

    The uid counts: to replace an object that is gone would otherwise make it again.
    """
    return f"{found.resource_version}.{found.uid}"


def _text(when: int) -> str:
    return "never" if when == NEVER else rfc3339(min(when, _LATEST))


def _time(text: str) -> int:
    if text == "never":
        return NEVER
    when = seconds(text)
    if when is None:
        raise ValueError("no time")
    return int(when)
