"""`pxeboot explain`: the answer that a machine would get, and why."""

import http.client
import json
import sys
import time
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from pxeboot.cli import asking, completing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from config.marks import Marks
    from config.model import Farm, Node
    from dhcp.leases import Lease
    from dhcp.plan import Plan
    from pxeboot.explain.compare import Compared
    from pxeboot.explain.explanation import Desk, Explanation
    from pxeboot.explain.packets import Sender
    from pxeboot.explain.state import Known
    from pxeboot.explain.whereabouts import Ours

LARGEST_CAPTURE = 1 << 29
MOST_SHOWN = 200
"""Requests of one capture that are shown; all of them are in the JSON."""


class _Identifier(click.ParamType[bytes]):
    """Text, or hex pairs with colons, as in the configuration."""

    name = "text|hex"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        from config.model import parse_identifier

        try:
            raw = bytes.fromhex(parse_identifier(value).replace(":", ""))
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)
        if len(raw) > 200:
            self.fail("it has more than 200 bytes", param, ctx)
        return raw


class _Address(click.ParamType[IPv4Address]):
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> IPv4Address:
        try:
            return IPv4Address(value)
        except ValueError:
            self.fail(f"{value!r} is no IPv4 address", param, ctx)


@click.command()
@click.argument("machine", required=False, metavar="[NAME|MAC|ADDRESS]", shell_complete=completing.machines)
@click.option("-c", "--config", "configuration", type=asking.ANY_PATH, default=asking.FARM, show_default=True,
              help="The farm's file.")  # fmt: skip
@click.option("--arch", metavar="NAME|CODE", help="What it is: bios, uefi-x64, uboot-arm64, rpi, ... or the number of "
              "option 93.  [default: uefi-x64, rpi for a MAC of theirs]")  # fmt: skip
@click.option("--class", "kind", type=click.Choice(["pxe", "http", "ipxe", "plain"]), default="pxe", show_default=True,
              help="How it boots; plain: a system that only wants an address.")  # fmt: skip
@click.option("--message", "asks", type=click.Choice(["discover", "request", "bootp", "4011"]), default="discover",
              show_default=True, help="What it asks; request: what follows that; 4011: the boot server.")  # fmt: skip
@click.option("--giaddr", type=_Address(), help="It asks through the relay with this address.")
@click.option("--circuit-id", type=_Identifier(), help="The switch port that the relay names (option 82.1).")
@click.option("--remote-id", type=_Identifier(), help="The switch that the relay names (option 82.2).")
@click.option("--uuid", type=click.UUID, help="Its UUID, as dmidecode shows it (option 97).")
@click.option("--client-id", type=_Identifier(), help="Its client identifier (option 61).")
@click.option("--interface", help="It asks on this interface of ours.")
@click.option("--server-address", type=_Address(), help="It asks at this address of ours.")
@click.option("--pcap", "capture", type=asking.ANY_PATH,
              help="Explain every request in this capture (pcap, pcapng), or those of one machine.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object, complete.")
def command(
    machine: str | None,
    configuration: Path,
    arch: str | None,
    kind: str,
    asks: str,
    giaddr: IPv4Address | None,
    circuit_id: bytes | None,
    remote_id: bytes | None,
    uuid: UUID | None,
    client_id: bytes | None,
    interface: str | None,
    server_address: IPv4Address | None,
    capture: Path | None,
    as_json: bool,
) -> None:
    """Show the DHCP answer that a machine would get, field by field, and where each comes from.

    Nothing is sent, and no lease is given. A MAC may have colons, dashes, dots or nothing between.

    Exit status: 0 if it boots, 1 if it does not, with what to change; of a capture, 0 if every machine in it boots by
    one of its requests.
    """
    from dhcp.engine import Server
    from dhcp.plan import plan
    from pxeboot.explain.explanation import Desk
    from pxeboot.explain.packets import Sender, is_raspberry_pi
    from pxeboot.explain.state import images
    from pxeboot.explain.whereabouts import Ours
    from pxeboot.probe.client import Kind, architecture

    machine = asking.named(machine)
    if machine is None and capture is None:
        raise click.UsageError("which machine? give its name, its MAC or its address, or --pcap FILE")
    if (circuit_id or remote_id) and giaddr is None and capture is None:
        raise click.UsageError("a relay says --circuit-id and --remote-id; give its address with --giaddr")
    if interface is not None and server_address is not None:
        raise click.UsageError("give --interface or --server-address")
    farm, marks = _loaded(configuration)
    known = _known(farm)
    planned = plan(farm)
    here = _here(farm, interface)
    own = frozenset(address.ip for address in here)
    broken, unseen = images(farm)
    desk = Desk(Server(planned, known.leases, known.now_s), farm, marks, known.intents, own, broken)
    mac, node, note = _machine(farm, known.leases, machine) if machine is not None else (None, None, None)
    notes = [*([note] if note else []), *known.said, *unseen]
    if node is not None and giaddr is None and capture is None and _needs_relay(node):
        raise click.UsageError(f"{node.name} is known by its switch port, which only a relay tells: add --giaddr")

    def ours(mac: bytes, giaddr: IPv4Address) -> Ours | None:
        from pxeboot.explain.whereabouts import our_address

        if server_address is not None:
            return Ours(server_address, "--server-address")
        host = planned.by_mac.get(mac.hex(":"))
        own = host.address if host else node.ip if node else None
        return our_address(farm, planned, here, own, giaddr)

    if capture is not None:
        macs = node.macs if node is not None else [mac.hex(":")] if mac is not None else []
        _explain_capture(desk, capture, known, macs, machine, notes, as_json=as_json, ours=ours)
        return
    assert mac is not None
    try:
        told_arch = arch or ("rpi" if is_raspberry_pi(mac) and kind == "pxe" else "uefi-x64")
        known_arch = architecture(told_arch, Kind(kind))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if node is not None:
        uuid, client_id, circuit_id, remote_id = _own(node, mac, uuid, client_id, circuit_id, remote_id, giaddr)
    sender = Sender(mac, Kind(kind), known_arch, uuid, client_id, giaddr or IPv4Address(0), circuit_id, remote_id)
    if uuid is None and sender.kind is not Kind.PLAIN and planned.by_uuid and node is None:
        notes.append("its UUID is made up, and machines are known by theirs here: --uuid says the real one")
    at = ours(mac, sender.giaddr)
    if at is None:
        raise click.UsageError("which network is it on? give --interface, --server-address or --giaddr")
    if at.stand_in:
        notes.append(f"our address is not known here; {at.address} stands for it (--server-address says another)")
    _explain_made_up(desk, planned, sender, asks, at, known.now_s, notes, as_json=as_json)


def _explain_made_up(
    desk: "Desk",
    planned: "Plan",
    sender: "Sender",
    asks: str,
    at: "Ours",
    now: float,
    notes: "Sequence[str]",
    *,
    as_json: bool,
) -> None:
    from dhcp.models import Model
    from dhcp.wire import NO_ADDRESS
    from pxeboot.explain import packets

    asked = packets.bootp(sender) if asks == "bootp" else packets.discover(sender)
    one = desk.explain(asked, packets.arrival_of(asked, at.address), now)
    words = {"discover": "sends a DHCPDISCOVER", "bootp": "sends a BOOTP request"}.get(asks, "")
    if asks in ("request", "4011"):
        offered = one.answer.send.message if one.answer else None
        address = offered.yiaddr if offered else NO_ADDRESS
        if asks == "4011":
            host = planned.by_mac.get(sender.mac.hex(":"))
            if address == NO_ADDRESS:
                network = planned.network_of(at.address)
                address = host.address if host else IPv4Address(network.first) if network else NO_ADDRESS
            asked = packets.boot_server(asked, address)
            arrival = packets.boot_server_arrival(asked, at.address, uefi=one.model is Model.EDK2_PXE)
            one = desk.explain(asked, arrival, now)
            words = f"with the address {address} asks UDP 4011"
        elif offered is not None and address != NO_ADDRESS:
            server = IPv4Address(offered.options[54])
            asked = packets.request(sender, address, server)
            one = desk.explain(asked, packets.arrival_of(asked, at.address), now)
            words = f"sends a DHCPREQUEST for {address}, which it was offered"
        else:
            words = "sends a DHCPDISCOVER, which no DHCPREQUEST follows"
    through = f", through the relay {sender.giaddr}" if sender.giaddr != NO_ADDRESS else ""
    what = "a BOOTP client" if asks == "bootp" else sender.words
    title = f"{one.name} ({sender.mac.hex(':')}), {what}, {words}{through}, at our {at.address}"
    _say(one, title, notes, as_json=as_json)


def _say(one: "Explanation", title: str, notes: "Sequence[str]", *, as_json: bool) -> None:
    if as_json:
        from pxeboot.explain.as_json import explanation_json

        click.echo(json.dumps({"title": title, "notes": [*notes], **explanation_json(one)}, indent=2))
    else:
        from pxeboot import screen
        from pxeboot.explain.show import show

        show(screen.console(), one, title=title, notes=notes)
    sys.exit(0 if one.boots else 1)


def _explain_capture(
    desk: "Desk",
    path: Path,
    known: "Known",
    macs: "Sequence[str]",
    machine: str | None,
    notes: list[str],
    *,
    as_json: bool,
    ours: "Callable[[bytes, IPv4Address], Ours | None]",
) -> None:
    from pxeboot.explain.capture import Captured, NoCapture, read
    from pxeboot.explain.compare import compare

    try:
        if path.stat().st_size > LARGEST_CAPTURE:
            raise click.UsageError(f"{path} has more than {LARGEST_CAPTURE >> 20} MiB; filter it first")
        found = read(path.read_bytes())
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from None
    except NoCapture as error:
        raise click.UsageError(f"{path}: {error}") from None

    def address(captured: Captured) -> IPv4Address | None:
        """A request sent to one server alone came in there; one to everybody, where its machine is."""
        to = captured.datagram.destination
        near = ours(captured.message.chaddr, captured.message.giaddr)
        if near is None and to != IPv4Address("255.255.255.255"):
            return to
        return near.address if near else None

    compared, nowhere = compare(desk, found.messages, known.now_s, address, macs)
    notes.append(f"{path.name}: {found.frames} frames, {len(compared)} requests explained")
    if found.cut:
        notes.append(f"it is cut off after {found.frames} frames")
    if not compared and not nowhere:
        notes.append(f"no request of {machine or 'any machine'} is in it")
    if found.damaged:
        notes.append(f"{found.damaged} frames of DHCP are cut or damaged")
    if found.unknown_links:
        notes.append(f"frames of link types {', '.join(map(str, found.unknown_links))} cannot be read")
    if nowhere:
        notes.append(f"{len(nowhere)} requests may be of any subnet; give --interface or --server-address")
    if as_json:
        from pxeboot.explain.as_json import compared_json

        click.echo(json.dumps({"notes": notes, "requests": [compared_json(one) for one in compared]}, indent=2))
    else:
        _show_capture(compared, notes)
    asked = {one.captured.message.chaddr for one in compared}
    sys.exit(0 if asked and asked == {one.captured.message.chaddr for one in compared if one.explanation.boots} else 1)


def _show_capture(compared: "Sequence[Compared]", notes: list[str]) -> None:
    from rich.text import Text

    from pxeboot import screen
    from pxeboot.explain.show import show_compared

    console = screen.console()
    for note in notes:
        console.print(Text(note, style="dim"), soft_wrap=True)
    for one in compared[:MOST_SHOWN]:
        console.print()
        kind = one.captured.message.options.get(53, b"")
        words = {1: "DHCPDISCOVER", 3: "DHCPREQUEST", 8: "DHCPINFORM"}.get(kind[0] if kind else 0, "message")
        mac = one.captured.message.chaddr.hex(":")
        show_compared(
            console, one, f"frame {one.captured.number}: {words} of {one.explanation.name} ({mac}); we would send"
        )
    if len(compared) > MOST_SHOWN:
        console.print(Text(f"{len(compared) - MOST_SHOWN} more requests are in the --json"))


def _loaded(path: Path) -> "tuple[Farm, Marks]":
    """Return the farm and its lines; say what is wrong with it and exit with status 1."""
    from config.load import ConfigErrors, load
    from config.marks import Marks
    from config.yamltree import NotReadable

    try:
        farm = load(path)
        return farm, Marks(str(path), path.read_bytes().decode("utf-8-sig"))
    except ConfigErrors as errors:
        click.echo(str(errors), err=True)
    except (OSError, UnicodeDecodeError, NotReadable) as error:  # it was changed after it was found right
        click.echo(f"pxeboot explain: {path} cannot be read again: {error}", err=True)
    sys.exit(1)


def _needs_relay(node: "Node") -> bool:
    """Return whether a machine is known by its switch or port alone."""
    by_port = node.circuit_id or node.remote_id
    return bool(by_port) and not (node.macs or node.client_id or node.uuid or node.serial)


def _known(farm: "Farm") -> "Known":
    """Return what the daemon knows, else what its files say."""
    from pxeboot.explain.state import from_daemon, from_files

    try:
        answers = [_ask(farm.server.control, path) for path in ("/v1/leases", "/v1/nodes")]
        return from_daemon(*answers)
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return from_files(farm.server.state, time.time())


def _ask(control: Path, path: str) -> dict[str, Any]:
    status, answer = asking.ask(control, path)
    if status != 200:
        raise ValueError(answer.get("error", status))
    return answer


def _here(farm: "Farm", interface: str | None) -> list[IPv4Interface]:
    """Return the addresses of `interface`, else of those that the farm serves and this computer has."""
    from config.interfaces import NoInterface, interface_addresses, links

    if interface is None:
        return [address for link in links(farm.server.interfaces).values() for address in link.addresses]
    try:
        return [*interface_addresses(interface)]
    except NoInterface as error:
        raise click.UsageError(error.strerror or str(error)) from None


def _machine(farm: "Farm", leases: "Sequence[Lease]", text: str) -> "tuple[bytes, Node | None, str | None]":
    """Return a machine's MAC, what the farm says of it, and what was chosen. Raises `click.UsageError`."""
    from pxeboot.meant import Book, address, alike, card

    nodes = {node.name: node for pool in farm.pools for node in pool.nodes}
    macs = {mac: node.name for node in nodes.values() for mac in node.macs}
    at = address(text)
    leased = [lease.mac for lease in leases if lease.address == at and lease.mac] if at is not None else []
    listed = Book.of(farm)
    book = Book(listed.of_card, lambda at: (*listed.at(at), *leased))
    name = book.find(text, lambda name: name in nodes or card(name) is not None)
    if name is None:
        if at is not None:
            raise click.UsageError(f"{at} is no machine's address in the farm's file, and nobody's by a lease")
        raise click.UsageError(f"no machine is called {text!r}, and it is no MAC{alike(text, nodes, macs)}")
    mac, node = card(name), nodes.get(name)
    if node is None and mac is not None:
        node = nodes.get(macs.get(mac, ""))
        raw = bytes.fromhex(mac.replace(":", ""))
        if raw[0] & 1 or not any(raw):
            raise click.UsageError(f"{text} is no single machine's MAC")
        return raw, node, f"{at} is, or was, leased to {mac}" if at is not None else None
    assert node is not None
    if not node.macs:
        said = f"{node.name} has no MAC in the farm; a made-up one asks, as it is known"
        return bytes((2, 0, 0, 0, 0, 1)), node, said
    others = ", ".join(node.macs[1:])
    note = f"{node.name} asks from its first MAC, {node.macs[0]}; it also has {others}" if others else None
    return bytes.fromhex(node.macs[0].replace(":", "")), node, note


def _own(
    node: "Node",
    mac: bytes,
    uuid: UUID | None,
    client_id: bytes | None,
    circuit_id: bytes | None,
    remote_id: bytes | None,
    giaddr: IPv4Address | None,
) -> tuple[UUID | None, bytes | None, bytes | None, bytes | None]:
    """Return what a machine says that is known by something else than its MAC, where nothing else is given."""
    if mac.hex(":") in node.macs:
        return uuid or node.uuid, client_id, circuit_id, remote_id

    def raw(text: str | None) -> bytes | None:
        return bytes.fromhex(text.replace(":", "")) if text else None

    serial = b"\0" + node.serial.encode() if node.serial else None
    relay = (raw(node.circuit_id), raw(node.remote_id)) if giaddr is not None else (None, None)
    return uuid or node.uuid, client_id or raw(node.client_id) or serial, circuit_id or relay[0], remote_id or relay[1]
