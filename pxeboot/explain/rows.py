"""An answer field by field: each with its value, its size, and where it comes from. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from config.dhcp import INFINITE_S
from config.dhcpoptions import decode_value, name_of
from config.marks import Where
from dhcp import options, replies, wire
from dhcp.layers import ALWAYS, LEASE_TIME, NEVER, SEND
from dhcp.options import MessageType, Option
from dhcp.replies import Send
from dhcp.request import BOOT_SERVER_PORT
from dhcp.wire import Flags, Message, Packed
from pxeboot.explain import boot
from pxeboot.explain.ground import Ground, Source, shown

_ECHOED = {
    Option.CLIENT_IDENTIFIER: "echoed as it came (RFC 6842)",
    Option.SUBNET_SELECTION: "echoed as it came (RFC 3011)",
    Option.RELAY_AGENT_INFORMATION: "the relay's, echoed as it came and last (RFC 3046 section 2.2)",
}
_FIELD_SIZES = {
    "op": 1, "htype": 1, "hlen": 1, "hops": 1, "xid": 4, "secs": 2, "flags": 2, "ciaddr": 4, "yiaddr": 4,
    "siaddr": 4, "giaddr": 4, "chaddr": 16, "sname": 64, "file": 128,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """One field or option."""

    name: str
    code: int | None
    """An option's number; None of a field."""
    value: str
    size_bytes: int
    """As it is sent; of an option, without the two bytes that head it."""
    source: Source
    raw: bytes = b""
    inside: str = ""
    """The field that an option was moved into for lack of room: file or sname."""
    sent: str = ""
    """Why an option is sent at all, or why not."""
    sent_where: Where | None = None

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.name if self.code is None else f"{self.code} {self.name}"


def fields(ground: Ground, send: Send, packed: Packed, address: Source) -> tuple[Row, ...]:
    """Return the fixed fields, in their order (RFC 2131 section 2)."""
    message, asked = send.message, ground.request.message
    used = _overload(packed)
    boot_source = boot.boot_file(ground)
    told_no_file = ground.request.client.traits.boot_server and not message.file and bool(ground.what.file)
    if told_no_file:
        quirk = ground.quirk("boot_server")
        boot_source = Source("none here: it is sent to UDP 4011 for it" + (f", by {quirk.why}" if quirk else ""),
                             quirk.where if quirk else None)  # fmt: skip
    is_nak = _type_of(message) is MessageType.DHCPNAK
    relay = "the relay's" if int(message.giaddr) else "the client's: no relay"
    refused = Source("a DHCPNAK has none (RFC 2131 table 3)")
    values: dict[str, tuple[str, Source]] = {
        "op": (str(int(message.op)), Source("BOOTREPLY (RFC 2131 section 2)")),
        "htype": (str(message.htype), Source("the client's (RFC 2131 table 3)")),
        "hlen": (str(len(message.chaddr)), Source("the client's (RFC 2131 table 3)")),
        "hops": (str(message.hops), Source("0 in every answer (RFC 2131 table 3)")),
        "xid": (f"{message.xid:#010x}", Source("the client's (RFC 2131 table 3)")),
        "secs": (str(message.secs), Source("0 in every answer (RFC 2131 table 3)")),
        "flags": (_flags(message), _flags_source(message, asked)),
        "ciaddr": (str(message.ciaddr), _ciaddr_source(message)),
        "yiaddr": (str(message.yiaddr), refused if is_nak else address),
        "siaddr": (str(message.siaddr), refused if is_nak else boot.siaddr(ground)),
        "giaddr": (str(message.giaddr), Source(f"{relay} (RFC 2131 table 3)")),
        "chaddr": (message.chaddr.hex(":"), Source("the client's (RFC 2131 table 3)")),
        "sname": _text(message.sname, "sname", used, refused if is_nak else _sname_source(ground, message)),
        "file": _text(message.file, "file", used, refused if is_nak else _file_source(ground, message, boot_source)),
    }
    out, at = [], 0
    for name, size in _FIELD_SIZES.items():
        value, source = values[name]
        out.append(Row(name, None, value, size, source, raw=packed.data[at : at + size]))
        at += size
    return tuple(out)


def sent_options(ground: Ground, send: Send, packed: Packed) -> tuple[Row, ...]:
    """Return the options in the order in which they are sent; those in `file` and `sname` come last."""
    values = dict(send.message.options)
    seen: set[int] = set()
    rows = []
    for inside, code, part in _instances(packed):
        if code in seen:
            continue
        seen.add(code)
        value = values.get(code, part)
        sent, sent_where = _why_sent(ground, send.message, code)
        source = _option_source(ground, send.message, code, value)
        if code == Option.OPTION_OVERLOAD:
            source = Source("options had no room and lie in file or sname (RFC 2131 section 4.1)")
        rows.append(Row(name_of(code), code, decode_value(code, value), len(value), source, value, inside, sent,
                        sent_where))  # fmt: skip
    return tuple(rows)


def left_out(ground: Ground, send: Send, packed: Packed) -> tuple[Row, ...]:
    """Return what would be sent if there were room."""
    rows = []
    for code in packed.left_out:
        value = send.message.options[code]
        source = _option_source(ground, send.message, code, value)
        rows.append(Row(name_of(code), code, decode_value(code, value), len(value), source, value,
                        sent=f"no room: the answer may have {send.size_limit} bytes"))  # fmt: skip
    return tuple(rows)


def not_sent(ground: Ground, message: Message) -> tuple[Row, ...]:
    """Return the options that are configured for this client, and not sent; of those that we make, what never_send
    keeps back."""
    settings, rows = ground.what.settings, []
    kind = _type_of(message)
    for code, value in sorted((dict(ground.what.boot) | dict(settings)).items()):
        if code >= 255 or code in message.options:
            continue
        layer = next(iter(ground.layers_with(code)), None)
        made = layer is None and settings.get(SEND + code) == NEVER
        if not made and (layer is None or not layer.place or layer.place[-1] == "subnet"):
            continue
        source = ground.source(code) or _boot_source(ground, code, value)
        why, where = "the client did not ask for it", None
        if kind is MessageType.DHCPNAK:
            why = "a DHCPNAK has none (RFC 2131 table 3)"
        elif not value:
            why = "taken away there"
        elif settings.get(SEND + code) == NEVER:
            won = ground.layers_with(SEND + code)[0]
            why, where = "never_send", ground.marks.listed(won.place, "never_send", code)
        elif _is_boot_server(ground) and not replies.boot_server_sends(code, settings):
            why = "a boot server only says what to boot (PXE 2.1)"
            if code not in replies.OF_THE_NETWORK:
                why += ", and what always_send names"
        rows.append(Row(name_of(code), code, shown(code, value), len(value), source, value, sent=why,
                        sent_where=where))  # fmt: skip
    return tuple(rows)


def _instances(packed: Packed) -> Iterator[tuple[str, int, bytes]]:
    yield from (("", code, value) for code, value in wire.options_in(packed.data[240:]))
    used = _overload(packed)
    if used & 1:
        yield from (("file", code, value) for code, value in wire.options_in(packed.data[108:236]))
    if used & 2:
        yield from (("sname", code, value) for code, value in wire.options_in(packed.data[44:108]))


def _overload(packed: Packed) -> int:
    return options.number(dict(wire.options_in(packed.data[240:])).get(Option.OPTION_OVERLOAD), 1) or 0


def _option_source(ground: Ground, message: Message, code: int, value: bytes) -> Source:
    """Return where one option's value comes from."""
    request, what = ground.request, ground.what
    lease_s = options.number(message.options.get(Option.IP_ADDRESS_LEASE_TIME), 4)
    match code:
        case Option.DHCP_MESSAGE_TYPE:
            asked = request.message_type.name if request.message_type else "BOOTP request"
            return Source(f"the answer to a {asked} (RFC 2131 table 3)")
        case Option.SERVER_IDENTIFIER:
            return boot.server_identifier(ground, value)
        case Option.IP_ADDRESS_LEASE_TIME:
            return _lease_source(ground, int.from_bytes(value, "big"))
        case Option.RENEWAL_TIME:
            return Source(f"half of option 51, {lease_s} s (RFC 2131 section 4.4.5)")
        case Option.REBINDING_TIME:
            return Source(f"seven eighths of option 51, {lease_s} s (RFC 2131 section 4.4.5)")
        case Option.MESSAGE:
            return Source("why it is refused (RFC 2131 section 4.3.2)")
        case Option.CLIENT_IDENTIFIER | Option.SUBNET_SELECTION | Option.RELAY_AGENT_INFORMATION:
            return Source(_ECHOED[Option(code)])
        case Option.CLIENT_FQDN:
            name = ground.source(Option.HOST_NAME)
            return Source("its name as we know it; we write no DNS (RFC 4702)", name.where if name else None)
        case Option.CLASSLESS_STATIC_ROUTE if value != what.settings.get(code):
            return Source("with the default route added, as who reads 121 ignores 3 (RFC 3442)")
    configured = ground.source(code)
    if configured is not None and what.settings.get(code) == value:
        return configured
    return _boot_source(ground, code, value)


def _boot_source(ground: Ground, code: int, value: bytes) -> Source:
    """Return where an option comes from that leads a client to its boot file."""
    client = ground.request.client
    match code:
        case Option.VENDOR_CLASS_IDENTIFIER if "vendor_class" in client.traits.because and client.traits.vendor_class:
            return _quirk(ground, "vendor_class", "how this client wants it")
        case Option.VENDOR_CLASS_IDENTIFIER:
            return Source("marks a proxyDHCP's offer, by which EDK2 knows it (PXE 2.1)")
        case Option.VENDOR_SPECIFIC_INFORMATION:
            return _quirk(ground, "option_43", "how this client finds its boot file (PXE 2.1)")
        case Option.TFTP_SERVER_NAME:
            return _nul(ground, boot.server_name(ground), value, "nul_after_server_name")
        case Option.BOOTFILE_NAME:
            return _nul(ground, boot.boot_file(ground), value, "nul_after_boot_file")
        case Option.CLIENT_MACHINE_IDENTIFIER:
            return Source("the client's, echoed (PXE 2.1)")
        case Option.IPXE:
            return Source("iPXE need not wait 2 s for a proxyDHCP (option 175.176), since we say all of it")
        case _:
            return Source(f"the protocol's: option {code} ({name_of(code)})")


def _nul(ground: Ground, source: Source, value: bytes, trait: str) -> Source:
    quirk = ground.quirk(trait)
    if value.endswith(b"\0"):
        return replace(source, note="and a NUL, without which ROMs add junk")
    return replace(source, note=f"no NUL, by {quirk.why}") if quirk else source


def _quirk(ground: Ground, trait: str, otherwise: str) -> Source:
    return ground.quirk(trait) or Source(otherwise)


def _lease_source(ground: Ground, value: int) -> Source:
    plan, marks = ground.plan, ground.marks
    configured = ground.source(LEASE_TIME)
    assert configured is not None
    wish = options.number(ground.request.message.options.get(Option.IP_ADDRESS_LEASE_TIME), 4)
    default = ground.what.lease_s
    if not wish and value == default:
        return configured
    if wish and value == wish:
        return Source(f"what it asks for (option 51), instead of {default} s", configured.where)
    if wish and value == plan.shortest_lease_s:
        where = marks.of(("dhcp", "shortest_lease_s"))
        return Source(f"dhcp.shortest_lease_s; it asks for {wish} s", where)
    if wish and wish > default == value and ground.what.lease_is_its_own:
        asks = "ever" if wish == INFINITE_S else f"{wish} s"
        return Source(f"{configured.why}; it asks for {asks}", configured.where)
    if wish and value == plan.longest_lease_s:
        where = marks.of(("dhcp", "longest_lease_s")) or configured.where
        return Source(f"the longest there is; it asks for {'ever' if wish == INFINITE_S else f'{wish} s'}", where)
    return Source("what is left of the lease that it has", configured.where, configured.overrode)


def _why_sent(ground: Ground, message: Message, code: int) -> tuple[str, Where | None]:
    """Return why an option is sent: it was asked for, or goes without that."""
    asked = ground.request.message.options.get(Option.PARAMETER_REQUEST_LIST)
    if asked is not None and code in asked:
        return "asked for", None
    settings = ground.what.settings
    if settings.get(SEND + code) == ALWAYS:
        won = ground.layers_with(SEND + code)[0]
        return "always_send", ground.marks.listed(won.place, "always_send", code)
    if code in ground.what.boot:
        return "unasked: it leads to the boot file", None
    if code in replies.NEEDED or code in (Option.RENEWAL_TIME, Option.REBINDING_TIME) or code not in settings:
        return "unasked: the protocol wants it", None
    if asked is None:
        return "unasked: it has no list of wishes (option 55)", None
    return "unasked, as all under `options`", None


def _flags(message: Message) -> str:
    return f"{message.flags:#06x}" + (" (broadcast)" if message.flags & Flags.BROADCAST else "")


def _flags_source(message: Message, asked: Message) -> Source:
    if message.flags != asked.flags:
        return Source("the relay is to broadcast a DHCPNAK (RFC 2131 section 4.3.2)")
    return Source("the client's (RFC 2131 table 3)")


def _ciaddr_source(message: Message) -> Source:
    if int(message.ciaddr):
        return Source("the address that the client has already (RFC 2131 table 3)")
    return Source("0: the client has none yet (RFC 2131 table 3)")


def _sname_source(ground: Ground, message: Message) -> Source:
    if message.sname:
        return boot.server_name(ground)
    if not message.file and Option.BOOTFILE_NAME not in message.options:
        return Source("empty, as there is no boot file")
    return Source("empty: the name has more than 63 bytes, so it is in option 66 only")


def _file_source(ground: Ground, message: Message, source: Source) -> Source:
    if not message.file and ground.what.file and len(ground.what.file) >= _FIELD_SIZES["file"]:
        return Source(f"empty: the name has {len(ground.what.file)} bytes, so it is in option 67 only "
                      "(RFC 2132 section 9.5)", source.where)  # fmt: skip
    return source


def _text(value: bytes, field: str, used: int, source: Source) -> tuple[str, Source]:
    if used & {"file": 1, "sname": 2}[field]:
        return "options", Source("options that had no room elsewhere lie here (option 52)")
    return (repr(value.decode("utf-8", "backslashreplace")) if value else "", source)


def _type_of(message: Message) -> MessageType | None:
    value = options.number(message.options.get(Option.DHCP_MESSAGE_TYPE), 1)
    return None if value is None else MessageType(value)


def _is_boot_server(ground: Ground) -> bool:
    return ground.request.network.proxy or ground.request.arrival.port == BOOT_SERVER_PORT
