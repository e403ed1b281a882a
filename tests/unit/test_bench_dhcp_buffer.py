"""bench.dhcp_buffer: another process's socket gets room."""

import os
import socket
import subprocess
import sys

import pytest

from bench.dhcp_buffer import ROOM, give_room

PROGRAM = """
import socket, sys
{opens}
print("open", flush=True)
sys.stdin.readline()
print(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
"""


def run(opens: str, *, late: bool = False) -> tuple[bool, int]:
    """Have a process open a socket, give it room, and return whether that was done and what it then has."""
    program = [sys.executable, "-c", PROGRAM.format(opens=opens)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if not late:
            assert process.stdout.readline() == "open\n"
        done = give_room(process.pid, 10.0 if late else 0.1)
        said = process.communicate("\n", timeout=30)[0].split()
    return done, int(said[-1])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_NET_ADMIN")
def test_the_first_udp_socket_of_a_process_gets_room_as_soon_as_it_has_one() -> None:
    opens = "a = socket.socket(); b = open('/dev/null'); sock = socket.socket(type=socket.SOCK_DGRAM)"
    assert run(opens) == (True, 2 * ROOM)
    assert run(opens, late=True) == (True, 2 * ROOM)


def test_a_socket_of_another_kind_is_left_alone() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plain:
        before = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert run("sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)") == (False, before)


def test_a_process_that_ended_has_none() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
        assert not give_room(process.pid, 0.05)
