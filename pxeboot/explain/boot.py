"""Which boot file a client is told, and by which line or rule. Pure; `dhcp.told` decides it, this finds out why."""

from ipaddress import IPv4Address

from dhcp import boot
from dhcp.layers import FILE, SIADDR, SNAME
from dhcp.options import Option
from pxeboot.explain.ground import Ground, Overrode, Source, shown


def boot_file(ground: Ground) -> Source:
    """Return where the boot file comes from, or why there is none."""
    request, what = ground.request, ground.what
    client = request.client
    if not client.boots:
        return Source(f"it wants none: {client}")
    if client.traits.own_file_names and not what.file:
        quirk = ground.quirk("own_file_names")
        return Source("none: it knows itself what to fetch", quirk.where if quirk else None)
    network = request.network_of(request.message.ciaddr) or request.network
    by_number_only = request.host is None and not network.unknown_boots
    passed: list[Overrode] = []
    won = None
    for layer in reversed(what.layers):
        code = FILE if FILE in layer.options and not by_number_only else int(Option.BOOTFILE_NAME)
        value = layer.options.get(code)
        if value is None:
            continue
        name = value.rstrip(b"\0").decode("utf-8", "replace")
        heeded = boot.heeds(name) or not request.steered
        if won is None and heeded and not (client.ipxe and boot.is_ipxe(name)):
            won = layer, code, name
        else:
            passed.append(Overrode(shown(code, value), ground.level(layer.place), ground.where(layer, code)))
    url = f", made a URL of, as it boots over HTTP{_port(ground)}" if client.over_http else ""
    if won is not None:
        layer, code, name = won
        why = ground.level(layer.place)
        why += ": none" if not name else url if client.over_http and "://" not in name else ""
        return Source(why, ground.where(layer, code), tuple(passed))
    if by_number_only:
        where = ground.marks.nearest(ground.subnet_place(network.network))
        return Source("none: it is not configured, and its subnet has no `unknown`", where)
    if what.file:
        note = ", as iPXE is not given iPXE again" if passed else ""
        if passed and request.steered:
            note = ", as no other file heeds what the machine is to do"
        return Source(f"our own GRUB for {_machine(ground)}{note}{url}", None, tuple(passed))
    note = ", and no other file heeds what the machine is to do" if passed and request.steered else ""
    return Source(f"none: we have none of our own for {_machine(ground)}{note}", None, tuple(passed))


def siaddr(ground: Ground) -> Source:
    """Return where siaddr comes from."""
    if (found := ground.source(SIADDR)) is not None and ground.what.settings.get(SIADDR):
        return found
    if ground.plan.server_address is not None:
        return Source("server.address", ground.marks.of(("server", "address")), _overrode(found))
    return Source("our address, to which it came", None, _overrode(found))


def server_name(ground: Ground) -> Source:
    """Return where sname and option 66 come from."""
    if (found := ground.source(SNAME)) is not None and ground.what.settings.get(SNAME):
        return found
    inner = siaddr(ground)
    return Source(f"siaddr as text; {inner.why}", inner.where, inner.overrode)


def server_identifier(ground: Ground, value: bytes) -> Source:
    """Return why we call ourselves by the address in option 54."""
    request = ground.request
    if len(value) != 4 or (request.relay and value == request.relay.get(11)):
        return Source("what the relay wants us to be called: option 82.11 (RFC 5107)")
    if IPv4Address(value) == request.arrival.address:
        return Source("our address, to which it came (RFC 2131 section 4.3.1)")
    return Source("our address in the client's network (RFC 2131 section 4.3.1)")


def _machine(ground: Ground) -> str:
    client = ground.request.client
    if client.architecture is None:
        return "an unknown architecture"
    return client.machine.words if client.machine else f"architecture {client.architecture:#04x}"


def _port(ground: Ground) -> str:
    where = ground.marks.of(("server", "http_port"))
    return f" (port: {where})" if where else ""


def _overrode(source: Source | None) -> tuple[Overrode, ...]:
    return () if source is None else source.overrode
