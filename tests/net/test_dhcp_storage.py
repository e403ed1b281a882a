"""Leases survive: real server processes, killed, on disks that fail and clocks that jump (F-01 to F-06, F-26)."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from itertools import count, pairwise
from pathlib import Path

import pytest

from dhcp import journal, wire
from dhcp.formats import dnsmasq, kea
from dhcp.journal import HEADER
from dhcp.leases import NEVER, Lease
from dhcp.options import MessageType
from tests.net.test_dhcp_clients import RELAY
from tests.support.dhcp_clients import message, store_leases
from tests.support.segment import Segment, requires
from tests.support.served import Daemon, Prepared, get_lease, make_grub

pytestmark = pytest.mark.net

ROUNDS = 50
FARM = {
    "dhcp": {
        "probe": False,
        "lease_s": 3600,
        "subnets": [{"subnet": "10.77.0.0/16", "pool": "10.77.16.0-10.77.79.255"}],
    }
}
LEASED = "10.78.0.0"
"""The first of 100,000 addresses that somebody has."""
PATIENCE_S = 5.0
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


class Place:
    """A server, many clients, and the files between them."""

    def __init__(self, segment: Segment, folder: Path) -> None:
        self.segment = segment
        self.leases = folder / "leases"
        self.book = folder / "book"
        self.log = folder / "log"
        self.trace = folder / "trace"
        self.farm = folder / "farm.json"
        self.farm.write_text(json.dumps(FARM))
        self.book.touch()

    def argv(self, module: str = "serve_dhcp") -> list[str]:
        """The server's command."""
        return [sys.executable, "-m", f"tests.support.{module}", "eth1", str(self.farm), str(self.leases)]

    def serve(self, *before: str, env: dict[str, str] | None = None) -> "subprocess.Popen[str]":
        """Start the server, and wait until it serves."""
        with self.log.open("w") as log:
            environment = os.environ | (env or {})
            process = self.segment.server.popen(*before, *self.argv(), stdout=log, stderr=log, env=environment)
        self.wait_for("dhcp serves")
        return process

    def wait_for(self, text: str, within_s: float = 120.0) -> None:
        """Wait until the server's log has it."""
        self.until(lambda: text in self.log.read_text(), within_s)

    def until(self, holds: Callable[[], bool], within_s: float = 120.0) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < deadline, self.log.read_text()[-3000:] if self.log.exists() else ""
            time.sleep(0.02)

    def load(self, *options: object) -> "subprocess.Popen[str]":
        """Start the clients."""
        argv = ["tests.support.dhcp_load", "10.77.0.1", "10.77.0.2", str(self.book), *map(str, options)]
        return self.segment.client.popen(sys.executable, "-m", *argv, stdout=subprocess.PIPE)

    def clients(self, *options: object) -> int:
        """Run the clients to their end, and return how many have an address."""
        said, _ = self.load(*options).communicate(timeout=180)
        return int(said.split()[0])

    def told(self) -> dict[IPv4Address, str]:
        """Return whom each address was given to, by the clients' list; none may have been given to two."""
        owners: dict[IPv4Address, str] = {}
        for line in self.book.read_text().splitlines():
            mac, address, *_ = line.split()
            assert owners.setdefault(IPv4Address(address), mac) == mac, f"{address} has two owners"
        return owners

    def stored(self) -> dict[IPv4Address, str]:
        """Return whose each address is by the lease file."""
        found = journal.read(self.leases.read_bytes(), self.leases)
        assert found.skipped == 0
        return {lease.address: lease.mac for lease in found.leases}

    def last_end(self) -> int:
        """Return when the last lease of the file ends."""
        return max(lease.expires for lease in journal.read(self.leases.read_bytes(), self.leases).leases)

    def times(self) -> list[float]:
        """Return how long the clients waited, sorted."""
        return sorted(float(line.split()[3]) for line in self.book.read_text().splitlines())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Segment("10.77.0.1/16", "10.77.0.2/16") as segment:
        yield Place(segment, tmp_path)


def test_killed_fifty_times_under_load_nothing_is_lost_and_nothing_doubled(place: Place) -> None:
    with place.log.open("w") as log:
        server = place.segment.server.popen(
            *place.argv("serve_dhcp_again"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
    assert server.stdin is not None
    assert server.stdout is not None
    clients = place.load("--clients", 16000, "--rate", 500, "--window", 256, "--seconds", 600)
    anew = 0
    began = time.monotonic()
    for number in count():
        if number >= ROUNDS and len(place.told()) > 1000 and anew > ROUNDS / 10:
            break
        assert number < 5 * ROUNDS, "there was a load, and the file was written anew under it"
        server.stdin.write("serve\n")
        server.stdin.flush()
        word, pid = server.stdout.readline().split()
        assert word == "serving", place.log.read_text()
        inode = place.leases.stat().st_ino
        time.sleep(0.05 + 0.13 * (number % 7) / 7)
        os.kill(int(pid), signal.SIGKILL)
        assert server.stdout.readline().split() == ["ended", str(int(signal.SIGKILL))]
        anew += place.leases.stat().st_ino != inode
        told, stored = place.told(), place.stored()
        assert told.items() <= stored.items(), f"round {number}: {set(told.items()) - set(stored.items())}"
    took_s = time.monotonic() - began
    server.stdin.write("serve\n")
    server.stdin.flush()
    given = len(place.told())
    place.until(lambda: len(place.told()) > given + 20 or clients.poll() is not None)
    clients.terminate()
    assert place.told().items() <= place.stored().items()
    assert "Traceback" not in place.log.read_text()
    print(f"{given} leases over {number} kills in {took_s:.1f} s, {anew} rounds with a new file")


CALL = re.compile(r"(?P<pid>\d+) +(?:<\.\.\. )?(?P<name>\w+)(?P<rest>.*)")


def acks(trace: str) -> int:
    """Return how many ACKs left, each of them after its lease was written and synced. `trace` is strace's."""
    written: dict[bytes, int] = {}
    synced = -1
    begun: dict[str, int] = {}
    count = 0
    for number, line in enumerate(trace.splitlines()):
        call = CALL.match(line)
        if call is None:
            continue
        name, rest = call["name"], call["rest"]
        data = bytes.fromhex("".join(re.findall(r"\\x([0-9a-f]{2})", rest)))
        if name == "write":
            written |= {row.split()[0]: number for row in data.splitlines() if row.startswith(b"10.")}
        elif name == "fdatasync":
            if "resumed" not in line:
                begun[call["pid"]] = number
            if rest.endswith("= 0"):
                synced = max(synced, begun[call["pid"]])
        elif b"\x63\x82\x53\x63\x35\x01\x05" in data:
            at = data.index(b"\x63\x82\x53\x63") - 236
            address = str(IPv4Address(data[at + 16 : at + 20])).encode()
            assert written[address] < synced, f"line {number}: the ACK for {address!r} left before its sync"
            count += 1
    return count


STRACE = ("strace", "-f", "-qq", "-xx", "-s", "2000", "-e", "trace=write,fdatasync,sendto,sendmsg,rename")


@requires("strace")
def test_an_ack_leaves_after_its_lease_is_synced(place: Place) -> None:
    place.serve(*STRACE, "-o", str(place.trace))
    assert place.clients("--clients", 60, "--window", 8) == 60
    assert acks(place.trace.read_text()) >= 60


def hexed(data: bytes) -> str:
    """As strace -xx prints it."""
    return "".join(f"\\x{byte:02x}" for byte in data)


def test_killed_after_its_answer_it_knows_who_is_first_behind_a_port(place: Place) -> None:
    listed = {"name": "n1", "circuit_id": "eth1", "ip": "10.77.0.9", "dhcp": {"lease_s": 600}}
    pools = [{"name": "workers", "image": "i", "nodes": [listed]}]
    place.farm.write_text(json.dumps(FARM | {"images": {"i": {"path": "/i"}}, "pools": pools}))
    machine, bmc, own = "02:00:00:00:00:31", "02:00:00:00:00:32", IPv4Address("10.77.0.9")

    def asks(mac: str, kind: MessageType, **options: bytes) -> tuple[int, IPv4Address]:
        values = {int(code[1:]): value for code, value in options.items()} | {82: b"\1\4eth1"}
        ask = message(kind, mac, giaddr=IPv4Address("10.77.0.2"), hops=1, options=values)
        done = place.segment.client.run(sys.executable, "-c", RELAY, "10.77.0.2", ask.encode().hex())
        reply = wire.decode(bytes.fromhex(done.stdout.split()[2]))
        return reply.options[53][0], reply.yiaddr

    server = place.serve()
    wanted = {"o50": own.packed, "o54": IPv4Address("10.77.0.1").packed}
    assert asks(machine, MessageType.DHCPREQUEST, **wanted) == (MessageType.DHCPACK, own)
    place.until(lambda: own in place.stored())
    server.kill()
    server.wait()
    place.serve()
    kind, offered = asks(bmc, MessageType.DHCPDISCOVER)
    assert kind == MessageType.DHCPOFFER
    assert offered != own
    assert asks(machine, MessageType.DHCPREQUEST, **wanted) == (MessageType.DHCPACK, own)


def test_the_check_of_the_order_sees_a_wrong_one() -> None:
    ack = bytes(16) + IPv4Address("10.77.16.1").packed + bytes(216) + b"\x63\x82\x53\x63\x35\x01\x05\xff"
    write, sync = f'7 write(9, "{hexed(b"10.77.16.1 02: bound")}", 20) = 20', "7 fdatasync(9) = 0"
    send = f'5 sendto(6, "{hexed(ack)}", 240, 0) = 240'
    assert acks("\n".join([write, sync, send])) == 1
    late = ["7 fdatasync(9 <unfinished ...>", write, "7 <... fdatasync resumed>) = 0", send]
    for wrong in ([write, send, sync], [sync, write, send], [write, sync.replace("= 0", "= -1 EIO"), send], late):
        with pytest.raises(AssertionError, match="left before its sync"):
            acks("\n".join(wrong))


@requires("strace")
def test_a_disk_that_fails_to_sync_gives_no_lease_until_it_works(place: Place) -> None:
    inject = "inject=fdatasync:error=EIO:when=2..4"  # of the thread that writes
    place.serve(*STRACE, "-o", str(place.trace), "-e", inject)
    assert place.clients("--clients", 20, "--window", 1) == 20
    assert place.trace.read_text().count("(INJECTED)") == 3
    assert acks(place.trace.read_text()) >= 20
    assert place.told().items() <= place.stored().items()
    log = place.log.read_text()
    assert "cannot store leases, so it gives none: [Errno 5] Input/output error" in log
    assert "stores leases again" in log
    assert place.times()[-1] > 1.0, "three half seconds"


@requires("strace")
@pytest.mark.parametrize(
    ("call", "when"), [("rename", 1), ("fdatasync", 1), ("fdatasync", 2), ("ftruncate", 1), ("unlink", 1)]
)
def test_killed_inside_a_call_of_compaction_the_file_is_whole(place: Place, call: str, when: int) -> None:
    lines = b"".join(
        journal.encode(Lease(IPv4Address(0x0A4D1000 + n), "02:00:00:00:00:01", NEVER)) for n in range(900)
    )
    place.leases.write_bytes(b"pxeboot leases 1\n" + lines * 4 + b"10.77.0.9 02:0")
    before = {IPv4Address(0x0A4D1000 + n): "02:00:00:00:00:01" for n in range(900)}
    argv = ("strace", "-f", "-qq", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}")
    with place.log.open("w") as log:
        server = place.segment.server.popen(*argv, *place.argv(), stdout=log, stderr=log)
    assert server.wait(timeout=120) == -signal.SIGKILL
    found = journal.read(place.leases.read_bytes(), place.leases)
    assert {lease.address: lease.mac for lease in found.leases} == before
    assert place.leases.read_bytes().startswith((b"pxeboot leases 1\n", HEADER))
    place.serve()
    assert place.clients("--clients", 5) == 5
    assert (before | place.told()).items() <= place.stored().items()


def test_a_disk_that_is_full_gives_no_lease_until_there_is_room(place: Place, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)], check=True)
    try:
        place.leases = small / "leases"
        server = place.serve()
        clients = place.load("--clients", 1500, "--seconds", 300)
        place.wait_for("cannot store leases, so it gives none: [Errno 28] No space left on device")
        time.sleep(0.7)  # some more are refused
        assert 500 < len(place.told()) < 1300
        assert place.told().items() <= place.stored().items()
        subprocess.run(["mount", "-o", "remount,size=4m", str(small)], check=True)
        assert clients.communicate(timeout=360)[0].split()[0] == "1500"
        assert place.told().items() <= place.stored().items()
        assert "stores leases again" in place.log.read_text()
        server.terminate()
        server.wait()
        assert sorted(os.listdir(small)) == ["leases", "leases.lock"]
    finally:
        place.segment.server.stop()
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_server_with_100_000_leases_starts_in_two_seconds(place: Place) -> None:
    store_leases(place.leases, LEASED)
    began = time.monotonic()
    server = place.serve()
    took_s = time.monotonic() - began
    [pid] = [pid for pid in place.segment.server.pids() if pid == server.pid]
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    busy_s = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    print(f"100,000 leases: serves after {took_s:.2f} s, of which {busy_s:.2f} s on a processor")
    assert busy_s < 2, "of processor time: others may use the machine"
    assert place.clients("--clients", 10) == 10


def test_leases_are_given_in_time_while_100_000_are_written_anew_over_and_over(place: Place, tmp_path: Path) -> None:
    """In memory: what a disk takes that others use as well is not ours (`python -m bench.leases` is on a disk)."""
    memory = tmp_path / "memory"
    memory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(memory)], check=True)
    try:
        place.leases = memory / "leases"
        given_in_time(place)
    finally:
        place.segment.server.stop()
        subprocess.run(["umount", "-l", str(memory)], check=True)


def given_in_time(place: Place) -> None:
    store_leases(place.leases, LEASED)
    with place.log.open("w") as log:
        server = place.segment.server.popen(
            *place.argv("serve_dhcp_again"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write("serve\n")
    server.stdin.flush()
    assert server.stdout.readline().startswith("serving"), place.log.read_text()
    inodes = [place.leases.stat().st_ino]
    anew = rounds = 0
    began = time.monotonic()
    while anew <= 2:  # who looks may stand still, and miss some
        assert rounds < 10, "it is written anew all the time"
        pace = ("--clients", 800, "--rate", 200, "--window", 800, "--repeat", PATIENCE_S)
        clients = place.load(*pace, "--first", 1000 + 800 * rounds)
        while clients.poll() is None:
            inodes.append(place.leases.stat().st_ino)
            time.sleep(0.02)
        anew = sum(one != other for one, other in pairwise(inodes))
        rounds += 1
    anew_s = (time.monotonic() - began) / anew
    times = place.times()
    p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
    print(f"{len(times)} exchanges: half in {p50 * 1e3:.1f} ms, 99 % in {p99 * 1e3:.1f} ms, anew in {anew_s:.2f} s")
    assert len(place.told()) == 800 * rounds
    assert times[-1] < PATIENCE_S, "nobody had to repeat himself: nothing was lost"
    assert place.told().items() <= place.stored().items()
    assert p50 < anew_s / 4, "nobody waits for the file; on a busy machine both take longer"


def set_clock(file: Path, offset: str) -> None:
    """Set the server's clock; libfaketime reads the file at any moment."""
    new = file.with_name("new-offset")
    new.write_text(offset)
    new.rename(file)


def jumps(place: Place) -> list[int]:
    """By how many seconds the clock was set, as the log tells it."""
    return [int(found) for found in re.findall(r"the wall clock was set by (-?\d+) s", place.log.read_text())]


@pytest.mark.skipif(not Path(FAKETIME).exists() and not os.environ.get("CI"), reason="needs faketime")
def test_a_clock_that_jumps_neither_ends_leases_nor_makes_them_last(place: Place, tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    fake = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}  # fmt: skip
    days = 0
    set_clock(offset, "+0")
    server = place.serve(env=fake)
    assert place.clients("--clients", 3) == 3
    first = place.told()
    for jump, again in ((3650, False), (-3651, False), (-20000, True), (23653, True)):
        days += jump
        set_clock(offset, f"{days:+d}d")
        if again:
            server.kill()
            server.wait()
            server = place.serve(env=fake)
            place.clients("--clients", 1, "--first", 1)
        else:
            place.until(lambda by_s=jump * 86400: any(abs(seen - by_s) < 60 for seen in jumps(place)))  # type: ignore[misc]
            latest = time.time() + 86400 * days + 3700
            place.until(lambda latest=latest: place.last_end() < latest)  # type: ignore[misc]
        assert place.clients("--clients", 3, "--first", 10**6 + days) == 3, "others get others"
        assert place.clients("--clients", 3) == 3
        assert first.items() <= place.told().items(), "the same machines have the same addresses"
    assert "Traceback" not in place.log.read_text()


def pxeboot_leases(prepared: Prepared, *argv: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pxeboot", "leases", "--config", str(prepared.configuration), *argv]
    env = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, env=env)


@requires("busybox", "grub-mknetdir")
def test_a_machine_keeps_the_address_that_dnsmasq_gave_it(tmp_path: Path) -> None:
    mac = "02:10:00:00:00:05"
    theirs = tmp_path / "dnsmasq.leases"
    theirs.write_text(f"{int(time.time()) + 3000} {mac} 10.77.0.217 * 01:{mac}\n")
    prepared = Prepared(tmp_path, make_grub(tmp_path / "grub"))
    done = pxeboot_leases(prepared, "import", "--from", "dnsmasq", str(theirs))
    assert (done.returncode, done.stderr) == (0, "")
    with Segment() as segment:
        daemon = Daemon(segment.server, tmp_path, "-c", str(prepared.configuration))
        assert get_lease(segment.host(mac=mac)) == "10.77.0.217"
        shown = pxeboot_leases(prepared)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert re.search(rf"10\.77\.0\.217 +{mac} +bound +in ", shown.stdout), shown.stdout
        assert json.loads(pxeboot_leases(prepared, "--json").stdout)["degraded"] is None
        again = pxeboot_leases(prepared, "import", "--from", "dnsmasq", str(theirs))
        assert again.returncode == 1
        assert "another process keeps its leases here; stop `pxeboot serve` first" in again.stderr
        daemon.stop()
        shown = pxeboot_leases(prepared)
        assert "10.77.0.217" in shown.stdout
        assert "no daemon at" in shown.stderr


@requires("kea-lfc")
def test_kea_reads_what_we_write_for_it(tmp_path: Path) -> None:
    mac = "52:54:00:12:34:56"
    now = int(time.time())
    leases = [Lease(IPv4Address(0x0A4D0000 + n), f"id:ff{n:04x}", now + 999, mac=mac) for n in range(300)]
    leases.append(Lease(IPv4Address("10.78.0.1"), mac, NEVER))
    (tmp_path / "old").write_text(kea.write(leases, now))
    names = [(option, str(tmp_path / name)) for option, name in (("-x", "older"), ("-i", "old"), ("-o", "output"),
             ("-f", "finish"), ("-p", "pid"), ("-c", "config"))]  # fmt: skip
    argv = ["kea-lfc", "-4", "-d", *(word for pair in names for word in pair)]
    env = os.environ | {"KEA_LOGGER_DESTINATION": "stdout", "KEA_LOCKFILE_DIR": str(tmp_path)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, env=env, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = next(path for path in (tmp_path / "older", tmp_path / "finish", tmp_path / "output") if path.exists())
    assert list(kea.read(written.read_bytes(), by_client_id=True).leases.values()) == leases


@requires("dnsmasq")
def test_dnsmasq_reads_what_we_write_for_it(place: Place, tmp_path: Path) -> None:
    now = int(time.time())
    leases = [Lease(IPv4Address(0x0A4D1000 + n), f"02:00:00:00:00:{n:02x}", now + 999) for n in range(9)]
    leases.append(Lease(IPv4Address("10.77.20.1"), "02:00:00:00:01:01", NEVER))
    file = tmp_path / "dnsmasq.leases"
    file.write_text(f"{now - 5} 02:00:00:00:02:02 10.77.20.2 * *\n" + dnsmasq.write(leases, now))
    place.segment.server.popen(
        *("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth1", "--user=root"),
        *("--dhcp-range=10.77.16.0,10.77.79.255,1h", f"--dhcp-leasefile={file}", "--no-ping", "--pid-file="),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert place.clients("--clients", 1) == 1, "so it wrote its file anew"
    place.segment.server.stop()
    found = dnsmasq.read(file.read_bytes()).leases
    assert {lease.address: lease for lease in leases}.items() <= found.items()
    assert len(found) == len(leases) + 1
