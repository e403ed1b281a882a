"""What people are told of a message: that a boot begins, and why it was not answered. Pure."""

from ipaddress import IPv4Address

from config.events import Event, Stage
from dhcp.actions import Action, Happened, Left
from dhcp.plan import Plan
from dhcp.request import Ignored, Reason, Request
from dhcp.told import told


def begins(request: Request, but: str = "") -> list[Action]:
    """Tell that a firmware asks for an address, so that a boot begins. A running system that asks begins none."""
    if not request.client.boots:
        return []
    if request.not_first not in but:
        but = f"; {request.not_first}{but}"
    return [happened(request, Stage.DISCOVER, f"{request.client}, asks for an address{but}")]


def happened(request: Request, stage: Stage, detail: str, boots: bool = True) -> Happened:
    """Tell what happened to who asks."""
    return Happened(request.mac, stage, detail, boots, request.played)


def left(request: Request) -> list[Action]:
    """Tell that an address was given back, if it is `pxeboot probe` that did. Of a machine's nobody needs to hear."""
    return [Left(request.mac)] if request.played else []


def event_of(action: Happened | Left) -> Event | None:
    """Return what is reported; None of what is no boot's: but that a machine itself has its address always is."""
    if isinstance(action, Left):
        return Event(action.mac, Stage.ADDRESS, "gave it back", played=True, boots=False)
    if action.boots or (action.stage is Stage.ADDRESS and not action.played):
        return Event(action.mac, action.stage, action.detail, played=action.played, boots=action.boots)
    return None


def ignore(request: Request, reason: Reason, detail: str) -> list[Action]:
    """Return what there is to do about a message that gets no answer."""
    return [Ignored(request.mac, reason, detail)]


def without_address(request: Request) -> str:
    """Why a machine gets no address where there is no pool."""
    host = request.host
    if request.not_first:
        return f"{request.not_first}, and {request.network.network} has no pool"
    if host is None:
        return f"it is not configured, and {request.network.network} has no pool"
    return f"its address {host.address} cannot be used in {request.network.network}, which has no pool"


def without_file(request: Request, plan: Plan, address: IPv4Address) -> list[Action]:
    """Report a machine that is to boot and cannot."""
    client = request.client
    if not client.boots or client.traits.own_file_names:
        return []
    what = told(request, plan, address)
    if what.file or what.declines_to_boot:
        return []
    return [happened(request, Stage.FAILED, f"there is no boot file for {client}")]


def hours(seconds: int) -> str:
    """Return a time as a person says it."""
    return f"{seconds // 3600} hours" if seconds % 3600 == 0 else f"{seconds} s"
