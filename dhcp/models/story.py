"""Which model a client is like, and the steps that a reply, or several, make it take."""

import re
from collections.abc import Sequence
from dataclasses import replace

from config.quirks import Kind
from dhcp import boot, pxe
from dhcp.boot import Client
from dhcp.models import edk2, others
from dhcp.models.steps import Model, Reply, Step, fails, goes, message_type, text
from dhcp.options import MessageType, Option
from dhcp.wire import NO_ADDRESS, Message, Op

_GRUB = re.compile(r"(^|/)(core\.(0|efi)|grub[^/]*\.efi)$")
_PATIENCE = {
    Model.EDK2_PXE: "asks again after 4, 8, 16 and 32 s, then gives up (PXE-E16), and tries its next boot entry",
    Model.EDK2_HTTP: "asks again after 4, 8, 16 and 32 s, then gives up, and tries its next boot entry",
    Model.IPXE: "asks again after 1, 2, 4 and 8 s, then gives up, and tries its next boot entry",
    Model.LEGACY_PXE: "asks again after 4, 8, 16 and 32 s, then gives up (PXE-E51), and tries its next boot entry",
    Model.U_BOOT: "asks again for 28 s, and starts anew",
    Model.RASPBERRY_PI: "asks again every 4 s, gives up after 45 s, and tries its next boot mode",
    Model.BOOTP: "asks again",
    Model.PLAIN: "asks again, ever more seldom",
}
"""What each does when nobody answers."""


def model_for(request: Message) -> Model:
    """Return the program that sends such a request, as far as it can be told."""
    return _model(_client(request))


def next_steps(request: Message, *replies: Message, overloaded: bool = False) -> tuple[Step, ...]:
    """Return what the client that sent `request` does when it hears `replies`, in the order in which they come.

    Of a DHCPDISCOVER, they are offers; it is then taken that the DHCPACK says what its offer said. `overloaded` says
    that the replies are sent with option 52, which `Message` does not show.
    """
    client = _client(request)
    model = _model(client)
    if not replies:
        return (fails(_PATIENCE[model], "nobody answers"),)
    kind = message_type(request)
    marks = (b"PXEClient", b"HW-Client") if client.vendor_class.startswith(b"HW-Client") else (b"PXEClient",)
    heard = [Reply(message, overloaded, marks) for message in replies]
    steps = [step for reply in heard if (step := _drops(request, kind, reply)) is not None]
    taken = [reply for reply in heard if _drops(request, kind, reply) is None]
    if not taken:
        return (*steps, fails(_PATIENCE[model], "nothing that it heard is an answer"))
    if kind is MessageType.DHCPDISCOVER:
        steps += _chooses(model, taken)
    elif kind is MessageType.DHCPREQUEST and taken[0].message_type is MessageType.DHCPNAK:
        why = text(taken[0].message.options.get(Option.MESSAGE, b"")) or "no reason given"
        steps.append(fails("forgets its address, and starts again with DHCPDISCOVER", f"DHCPNAK: {why}"))
    else:
        steps += _has(model, request, taken[0])
    return (*steps, *_grub(client, steps, taken))


def _client(request: Message) -> Client:
    return boot.client(request.options, request.chaddr.hex(":"))


def _model(client: Client) -> Model:
    name = client.machine.name if client.machine is not None else ""
    if client.traits.own_file_names:
        return Model.RASPBERRY_PI
    if client.ipxe:
        return Model.IPXE
    if client.vendor_class.startswith(b"U-Boot") or name.startswith("uboot"):
        return Model.U_BOOT
    match client.kind:
        case Kind.HTTP:
            return Model.EDK2_HTTP
        case Kind.PXE:
            return Model.EDK2_PXE if name.startswith("uefi") else Model.LEGACY_PXE
        case Kind.OTHER_LOADER:
            return Model.EDK2_PXE if name.startswith("uefi") else Model.BOOTP
        case Kind.PLAIN:
            return Model.PLAIN


def _drops(request: Message, kind: MessageType | None, reply: Reply) -> Step | None:
    """What every client checks before it reads on; None if there is nothing against `reply`."""
    message = reply.message
    wanted = {
        MessageType.DHCPDISCOVER: (MessageType.DHCPOFFER,),
        MessageType.DHCPREQUEST: (MessageType.DHCPACK, MessageType.DHCPNAK),
        MessageType.DHCPINFORM: (MessageType.DHCPACK,),
    }
    if message.op is not Op.BOOTREPLY:
        why = "it is no reply (op)"
    elif message.xid != request.xid:
        why = "it answers another request (xid)"
    elif message.chaddr != request.chaddr:
        why = "it is for another machine (chaddr)"
    elif kind is not None and reply.message_type not in wanted.get(kind, ()):
        why = f"it is no answer to a {kind.name} (option 53)"
    elif kind is not None and Option.SERVER_IDENTIFIER not in message.options:
        why = "it does not say which server it is from (option 54)"
    else:
        return None
    return fails(f"drops a packet of {reply.server}", why)


def _chooses(model: Model, offers: Sequence[Reply]) -> list[Step]:
    match model:
        case Model.EDK2_PXE:
            return edk2.pxe_chooses(offers)
        case Model.EDK2_HTTP:
            return edk2.http_chooses(offers)
        case Model.IPXE:
            return others.ipxe_chooses(offers)
        case Model.LEGACY_PXE | Model.BOOTP:
            return others.rom_chooses(offers)
        case Model.U_BOOT:
            return others.u_boot_chooses(offers)
        case Model.RASPBERRY_PI:
            return others.raspberry_pi_chooses(offers)
        case Model.PLAIN:
            return others.plain_chooses(offers)


def _has(model: Model, request: Message, ack: Reply) -> list[Step]:
    """What follows from a DHCPACK, or from a BOOTP reply."""
    steps = [goes(f"has {ack.message.yiaddr}", "yiaddr")] if ack.message.yiaddr != NO_ADDRESS else []
    from_boot_server = request.ciaddr != NO_ADDRESS and ack.message.yiaddr == NO_ADDRESS
    if from_boot_server and pxe.decode(request.options.get(Option.VENDOR_SPECIFIC_INFORMATION, b"")).item is not None:
        # It chose from a menu, and reads no menu again (edk2 PxeBcBoot.c, ipxe pxemenu.c).
        said = dict(ack.message.options) | {Option.VENDOR_SPECIFIC_INFORMATION: pxe.USE_THIS_FILE}
        ack = replace(ack, message=replace(ack.message, options=said))
    match model:
        case Model.EDK2_PXE:
            return steps + (edk2.pxe_answered(ack) if from_boot_server else edk2.pxe_has(ack))
        case Model.EDK2_HTTP:
            return steps + edk2.http_boots(ack)
        case Model.IPXE:
            return steps + others.ipxe_boots(ack)
        case Model.LEGACY_PXE | Model.BOOTP:
            return steps + others.rom_boots(ack)
        case Model.U_BOOT:
            return steps + others.u_boot_boots(ack)
        case Model.RASPBERRY_PI:
            return steps + others.raspberry_pi_boots(ack)
        case Model.PLAIN:
            return steps or [goes("uses the options, and keeps its address", "yiaddr is 0")]


def _grub(client: Client, steps: Sequence[Step], replies: Sequence[Reply]) -> list[Step]:
    """What GRUB then reads from the same reply, if that is what was fetched."""
    if not steps or not steps[-1].ok:
        return []
    for reply in replies:
        name = reply.boot_file[0]
        if name.endswith(tuple(boot.BUILT_IN.values())) and name in steps[-1].what:
            what = "(our GRUB) asks the server that it came from by HTTP for grub.cfg-01-MAC"
            return [goes(what, "a script in its image names that server")]
        if _GRUB.search(name) and name in steps[-1].what:
            efi = client.machine is not None and client.machine.name.startswith("uefi")
            return others.grub_boots(reply, efi=efi)
    return []
