"""Whether the server that is measured says what its plain twin would: the engine, asked by nobody but us.

    python -m bench.dhcp_twin FARM_FILE

Plays relayed machines, some as perfdhcp plays them and some as UEFI firmware asks, to a `pxeboot serve` that was just
started with the farm; compares each answer, byte for byte, with the engine's own. The first machine of a kind is
answered by the engine there too, and the others by the short way. Prints a line; exit code 1 if an answer differs.
"""

import socket
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

from bench.dhcp_peers import RELAY, SERVER, known
from config.load import load
from dhcp.engine import Server
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.request import Arrival
from dhcp.wire import Message, Op, decode

MACHINES = 20
"""Of each kind."""
NOW = 1_790_000_000.0
"""It does not matter when: answers tell how long a lease is, not until when."""
_PERFDHCP: dict[int, bytes] = {Option.PARAMETER_REQUEST_LIST: bytes((1, 28, 2, 3, 15, 6, 12))}
_UEFI: dict[int, bytes] = {
    Option.PARAMETER_REQUEST_LIST: bytes((1, 3, 6, 12, 15, 43, 60, 66, 67, 97, 128, 129)),
    Option.VENDOR_CLASS_IDENTIFIER: b"PXEClient:Arch:00007:UNDI:003016",
    Option.CLIENT_SYSTEM_ARCHITECTURE: b"\0\7",
    Option.CLIENT_NETWORK_INTERFACE: b"\1\3\x10",
}


def compare(sock: socket.socket, twin: Server, messages: Iterator[tuple[MessageType, str, dict[int, bytes]]]) -> str:
    """Send messages to both, and return what the first difference is; nothing if there is none."""
    arrival = Arrival(IPv4Address(SERVER), unicast=True, source=IPv4Address(RELAY), interface="eth1")
    address, compared = b"", 0
    for number, (kind, mac, options) in enumerate(messages):
        said = {Option.DHCP_MESSAGE_TYPE: bytes((kind,))} | options
        if kind is MessageType.DHCPREQUEST:
            said |= {Option.REQUESTED_IP_ADDRESS: address, Option.SERVER_IDENTIFIER: IPv4Address(SERVER).packed}
        chaddr, giaddr = bytes.fromhex(mac.replace(":", "")), IPv4Address(RELAY)
        message = Message(Op.BOOTREQUEST, xid=number, chaddr=chaddr, giaddr=giaddr, options=said)
        expected = [action.pack().data for action in twin.receive(message, arrival, NOW) if isinstance(action, Send)]
        sock.send(message.encode())
        answer = sock.recv(4096)
        if expected != [answer]:
            return f"{kind.name} of {mac}: it said {answer.hex()}, and the engine {[data.hex() for data in expected]}"
        address = decode(answer).yiaddr.packed
        compared += 1
    print(f"{compared} answers of the running server are those of the plain engine, byte for byte")
    return ""


def exchanges(macs: list[str]) -> Iterator[tuple[MessageType, str, dict[int, bytes]]]:
    """What machines say, each in turn, the two kinds alternately."""
    for number, mac in enumerate(macs):
        uuid: dict[int, bytes] = {Option.CLIENT_MACHINE_IDENTIFIER: bytes(11) + bytes.fromhex(mac.replace(":", ""))}
        options = _UEFI | uuid if number % 2 else _PERFDHCP
        yield MessageType.DHCPDISCOVER, mac, options
        yield MessageType.DHCPREQUEST, mac, options


def main() -> int:
    """Compare."""
    farm = load(Path(sys.argv[1]))
    twin = Server(plan(farm), (), NOW)
    twin.own_addresses([IPv4Address(SERVER)])
    macs = [machine.mac for machine in known(2 * MACHINES)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((RELAY, 67))
        sock.connect((SERVER, 67))
        sock.settimeout(5.0)
        wrong = compare(sock, twin, exchanges(macs))
    if wrong:
        print(wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
