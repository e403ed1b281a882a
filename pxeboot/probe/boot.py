"""Walks the whole chain of a boot, as a machine of a chosen firmware would: DHCP, TFTP, HTTP, NBD.

Nothing of a machine is used up: a join command is never fetched, nor an archive that may be fetched once. The address
is had for the time of the walk (`pxeboot.probe.lodging`) and released at its end.
"""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from config.architectures import Architecture
from config.interfaces import Link
from dhcp.boot import BUILT_IN
from dhcp.options import MessageType, Option
from pxeboot.probe import arp, dhcp, lodging, tftp, words
from pxeboot.probe.answers import Answer, Verdict, boot_words, judge
from pxeboot.probe.client import Client, Kind
from pxeboot.probe.files import Files
from pxeboot.probe.here import here
from pxeboot.probe.walk import Hop
from pxeboot.probe.words import Here

TFTP_TIMEOUT_S = 1.0
"""What a firmware waits before it says the last again; EDK2 waits 4 s, which no person likes to."""
Show = Callable[[Hop], None]
"""Takes a step that is over."""


@dataclass(slots=True)
class Walk:
    """A boot that is tried. Run it once."""

    client: Client
    link: Link
    wait_s: float
    show: Show
    http_port: int = 80
    nbd_port: int = 10809
    hops: list[Hop] = field(default_factory=list)
    here: Here | None = None
    """Why a boot could not be tried: the server runs here. Then what it serves was tried as far as possible."""

    @property
    def wrong(self) -> bool:
        """Whether anything is."""
        return any(hop.problems for hop in self.hops)

    def run(self) -> list[Hop]:
        """Walk it. Raises `OSError` if we cannot ask at all."""
        with self._hop("link") as hop:
            self._look_at_link(hop)
        if self.wrong:
            return self.hops
        with dhcp.asking(self.client, self.link.name) as conversation:
            with self._hop("DHCP offer") as hop:
                verdict = self._discover(conversation, hop)
            if self.here is not None:
                self._try_server_of_this_host()
                return self.hops
            if verdict.address_from is None or verdict.boot_from is None:
                return self.hops
            with self._hop("DHCP lease") as hop:
                taken = self._request(conversation, verdict.address_from, hop)
                if taken is not None:
                    hop.detail += f", boots {boot_words(verdict.boot_from)}"
            if taken is None or taken.address is None:
                return self.hops
            try:
                self._as_its_holder(conversation, verdict, taken)
            finally:
                conversation.release(taken, taken.address)
                self._add(Hop("release", f"{taken.address} was given back to {taken.server_id}"))
        return self.hops

    # --- steps ------------------------------------------------------------------------------------------------------

    def _look_at_link(self, hop: Hop) -> None:
        link = self.link
        own = ", ".join(map(str, link.addresses)) or "no address of its own"
        hop.detail = f"{link.name} {link.mac}, MTU {link.mtu}, {own}"
        if not link.up:
            hop.wrong(f"{link.name} is down", f"ip link set {link.name} up")
        elif not link.carrier:
            hop.wrong(*words.no_carrier(link.name))

    def _discover(self, conversation: dhcp.Conversation, hop: Hop) -> Verdict:
        client = self.client
        answers = tuple(conversation.ask(MessageType.DHCPDISCOVER, {}, self.wait_s))
        verdict = judge(client.kind, answers, self.wait_s, conversation.discover)
        said = [f"{answer.address or 'no address'} from {answer.name}{_vendor(answer.mac)}" for answer in answers]
        self.here = here(self.link.name, answers)
        if self.here is not None:
            hop.detail, hop.skipped = "not from here: this is the server", True
            hop.notes += [self.here.others(said)] * bool(answers)
            return verdict
        if not answers:
            hop.detail = f"nobody answered within {self.wait_s:g} s"
            hop.wrong(*words.no_offer(self.link.name))
            return verdict
        hop.took_s = answers[0].delay_s
        hop.detail = "; ".join(said)
        servers = {answer.server for answer in answers}
        for problem in verdict.problems:
            hop.wrong(problem, _remedy(problem, len(servers), client.architecture))
        if (offer := verdict.address_from) is not None and offer.relay is not None:
            hop.notes.append(f"it came through the relay {offer.relay}")
        return verdict

    def _request(self, conversation: dhcp.Conversation, offer: Answer, hop: Hop) -> Answer | None:
        assert offer.address is not None
        if self._is_used(offer.address, hop):
            return None
        wants: dict[int, bytes] = {
            Option.SERVER_IDENTIFIER: offer.server_id.packed,
            Option.REQUESTED_IP_ADDRESS: offer.address.packed,
        }
        for reply in conversation.ask(MessageType.DHCPREQUEST, wants, self.wait_s):
            if reply.message_type == "NAK":
                hop.wrong(f"{reply.name} refused {offer.address}, which {offer.name} had offered: {reply.message!r}",
                          "two servers give addresses of one network: only one may")  # fmt: skip
                return None
            if reply.message_type == "ACK":
                hop.took_s = reply.delay_s
                hop.detail = f"{reply.address} for {reply.lease_s} s"
                given = reply.address
                if given is not None and given != offer.address and self._is_used(given, hop):
                    conversation.release(reply, given)
                    return None
                return reply
        hop.wrong(f"{offer.name} did not answer the DHCPREQUEST for {offer.address} within {self.wait_s:g} s",
                  "see the server's log")  # fmt: skip
        return None

    def _is_used(self, address: IPv4Address, hop: Hop) -> bool:
        """Return whether somebody has an address already, which is wrong then: with it here too, he would lose it."""
        by = arp.others(self.link.name, address)
        if by:
            hop.wrong(*words.in_use(str(address), by, self.client.mac.hex(":"), _vendor(by[0])))
        return bool(by)

    def _try_server_of_this_host(self) -> None:
        """Try what can be asked at the interface's own address: such packets count as if they came by it."""
        if self.here is None or not self.here.ours or not self.link.addresses:
            return
        own = str(self.link.addresses[0].ip)
        files = Files(own, (own, self.http_port), self._hop)
        file = next((BUILT_IN[name] for name in self.client.architecture.settings if name in BUILT_IN), None)
        if file is not None:
            with self._hop("TFTP") as hop:
                files.follow(self._tftp(hop, own, file, own))
        files.reached(self.nbd_port)

    def _as_its_holder(self, conversation: dhcp.Conversation, verdict: Verdict, taken: Answer) -> None:
        """Go on with the address."""
        assert taken.address is not None
        mask = taken.subnet_mask or "255.255.255.0"
        network = IPv4Network(f"{taken.address}/{mask}", strict=False)
        lease = lodging.Lease(taken.address, network, next(iter(taken.routers), None))
        try:
            with lodging.lodged(self.link.name, lease):
                self._load(conversation, verdict, taken)
        except PermissionError:
            hop = Hop("address", skipped=True)
            hop.wrong(f"we may not take {taken.address} for the time of the probe, so nothing can be fetched",
                      "run it as root (CAP_NET_ADMIN)")  # fmt: skip
            self._add(hop)

    def _load(self, conversation: dhcp.Conversation, verdict: Verdict, taken: Answer) -> None:
        boot = verdict.boot_from
        if boot is None:
            return
        if boot.asks_4011:
            with self._hop("boot server") as hop:
                server = boot.next_server or boot.server_id
                told = conversation.at_port_4011(taken, server, self.wait_s)
                hop.detail = f"UDP port 4011 of {server} says {boot_words(told)}" if told else "no answer"
                if told is None:
                    hop.wrong(f"UDP port 4011 of {server} does not answer", "let it in: PXE clients ask there")
            if told is None:
                return
            boot = told
        source = str(taken.address)
        server_ip = str(boot.next_server or boot.server_id)
        loader = b""
        files = Files(source, (server_ip, self.http_port), self._hop)
        if boot.boot_file.startswith("http://"):
            loader = files.loader(boot.boot_file)
        elif boot.boot_file:
            with self._hop("TFTP") as hop:
                loader = self._tftp(hop, server_ip, boot.boot_file, source)
        if loader and "grub/" not in boot.boot_file:
            self._add(Hop("GRUB", f"{boot.boot_file!r} is no GRUB of pxeboot, so what it does next is not known",
                          skipped=True))  # fmt: skip
            return
        files.follow(loader)
        files.machine(self.client.mac, boot.boot_file, self.nbd_port)

    def _tftp(self, hop: Hop, server: str, file: str, source: str) -> bytes:
        """Fetch the boot loader as the firmware does; return it, b"" if it did not come."""
        kept = io.BytesIO()
        options = {"blksize": _BLKSIZE.get(self.client.kind, 1468), "tsize": 0}
        if self.client.kind is Kind.PXE and self.client.architecture.code == 0:
            options["blksize"] = 1456
        result = tftp.probe((server, 69), file, options, TFTP_TIMEOUT_S, output=kept, source=source)
        last = result.attempts[-1]
        hop.took_s = last.seconds or None
        granted = ", ".join(f"{name} {value}" for name, value in (last.granted or {}).items())
        if last.complete:
            hop.detail = f"{file!r} from {server}: {last.size_bytes:,} bytes, {granted or 'no options'}"
        else:
            hop.detail = f"{file!r} from {server} did not come"
        for problem in result.verdict.problems:
            what, _, remedy = problem.partition(". ")
            hop.wrong(what, remedy)
        hop.notes += result.verdict.notes
        return kept.getvalue() if last.complete else b""

    # --- the list ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _hop(self, step: str) -> Iterator[Hop]:
        hop, began = Hop(step), time.monotonic()
        yield hop
        if hop.took_s is None and not hop.skipped and step != "link":
            hop.took_s = time.monotonic() - began
        self._add(hop)

    def _add(self, hop: Hop) -> None:
        self.hops.append(hop)
        self.show(hop)


_BLKSIZE = {Kind.PXE: 1468, Kind.IPXE: 1432}


def _vendor(mac: str) -> str:
    """Return who made a card, as scapy's list knows it, in brackets; "" if it does not."""
    from scapy.config import conf

    if int(mac[:2] or "0", 16) & 2:
        return ""
    try:
        name = conf.manufdb._get_manuf(mac)
    except Exception:  # that list may not be installed
        return ""
    return f" [{name}]" if name and name != mac else ""


def _remedy(problem: str, servers: int, machine: Architecture) -> str:
    if "servers" in problem and servers > 1:
        return "only one may answer: turn the other off, keep it from this network, or let ours be a proxy beside it"
    if problem.startswith("nobody says what to boot") and not BUILT_IN.keys() & set(machine.settings):
        return f"we make boot loaders for BIOS and UEFI x64; one for {machine.words} is named in `dhcp.architectures`"
    if problem.startswith("nobody says what to boot"):
        return "an unlisted machine boots only where its subnet says `unknown: POOL`; try --mac of a listed one"
    if problem.startswith("nobody offers an address"):
        return "a proxy answers, and no DHCP server: is the one that gives addresses running?"
    return ""
