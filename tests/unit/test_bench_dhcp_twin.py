"""The comparison of the running server with the plain engine."""

import socket
from ipaddress import IPv4Address

import pytest

from bench.dhcp_peers import RELAY, SERVER
from bench.dhcp_twin import NOW, compare, exchanges
from config.model import Farm
from dhcp.engine import Server
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.request import Arrival
from dhcp.wire import decode

MAC = "52:54:00:00:00:01"
FARM = Farm.model_validate({
    "server": {"interfaces": ["eth1"]},
    "dhcp": {"subnets": [{"subnet": "10.28.0.0/14", "pool": "10.29.0.0-10.29.0.255", "unknown": "workers"}]},
    "images": {"node": {"path": "/srv/node"}},
    "pools": [{"name": "workers", "image": "node"}],
})  # fmt: skip


class Answering:
    """A server that is asked through what looks like a socket; `wrong` is the number of the answer it gets wrong."""

    def __init__(self, wrong: int = -1) -> None:
        self.answers = 0
        self._engine, self._wrong = Server(plan(FARM), (), NOW), wrong
        self._answer = b""

    def send(self, data: bytes) -> None:
        arrival = Arrival(IPv4Address(SERVER), unicast=True, source=IPv4Address(RELAY))
        [send] = [a for a in self._engine.receive(decode(data), arrival, NOW + 7) if isinstance(a, Send)]
        self._answer = send.pack().data
        if self.answers == self._wrong:
            self._answer = self._answer.replace(IPv4Address("255.252.0.0").packed, bytes(4))
        self.answers += 1

    def recv(self, size: int) -> bytes:
        return self._answer[:size]


@pytest.mark.parametrize(("wrong", "said"), [(-1, ""), (0, "DHCPDISCOVER"), (3, "DHCPREQUEST")])
def test_a_wrong_answer_is_noticed(wrong: int, said: str) -> None:
    running: socket.socket = Answering(wrong)  # type: ignore[assignment]
    found = compare(running, Server(plan(FARM), (), NOW), exchanges([MAC, "52:54:00:00:00:02"]))
    assert found.partition(" ")[0] == said
