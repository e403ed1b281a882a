"""One daemon and real clients: what it says of itself at /metrics, /healthz, /readyz, and of machines in its log."""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dhcp import wire
from dhcp.options import MessageType
from pxeboot.metrics import catalogue
from tests.support.dhcp_clients import STRANGER, message
from tests.support.segment import Host, Segment, requires
from tests.support.served import (
    IP,
    MAC,
    SERVER,
    TOKEN,
    UDHCPC,
    Daemon,
    Prepared,
    get_lease,
    http,
    make_grub,
    status_json,
    tftp,
)
from tests.support.waiting import until

pytestmark = pytest.mark.net

PAGE = "http://127.0.0.1:8067"
LOADER = "grub/x86_64-efi/core.efi"
PANIC = Path(__file__).parent.parent / "data/machinelogs/netconsole-panic.txt"

Values = defaultdict[tuple[str, ...], float]
"""0 for what is not there (yet)."""


@dataclass
class Watched:
    """A daemon whose client has a lease, and a stranger who has none."""

    segment: Segment
    prepared: Prepared
    daemon: Daemon
    stranger: Host

    def page(self, path: str, *options: str) -> tuple[int, str]:
        """Return the status and the body of a page."""
        said = self.segment.server.run("curl", "-s", "-w", "\\n%{http_code}", *options, f"{PAGE}{path}").stdout
        body, _, code = said.rpartition("\n")
        return int(code), body

    def metrics(self) -> Values:
        """Return every sample by its name and labels, the labels as key=value in their order."""
        status, text = self.page("/metrics")
        assert status == 200
        return parsed(text)

    def until(self, holds: Callable[[Values], bool]) -> Values:
        """Return the samples once something holds of them; what is seldom looked at is 10 s old at most."""
        deadline = time.monotonic() + 120
        while not holds(values := self.metrics()):
            if time.monotonic() > deadline:
                raise TimeoutError(str(values))
            time.sleep(0.3)
        return values

    def lines(self) -> list[dict[str, Any]]:
        """Return the daemon's log; each line is an object."""
        return [json.loads(line) for line in self.daemon.log.splitlines()]


def parsed(text: str) -> Values:
    values: Values = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name, *(f"{key}={value}" for key, value in sorted(sample.labels.items()))] = sample.value
    return values


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    with Segment() as segment:
        segment.client.run("ip", "link", "set", "eth0", "address", MAC)
        prepared = Prepared(
            folder,
            make_grub(folder / "grub"),
            log={"format": "json"},
            machine_logs={"syslog_port": 514, "netconsole_port": 6666},
        )
        daemon = Daemon(segment.server, folder, "-c", str(prepared.configuration))
        assert get_lease(segment.client) == IP
        yield Watched(segment, prepared, daemon, segment.host(address="10.77.0.99/24"))


@requires("curl", "busybox")
def test_what_is_counted_is_what_was_done(watched: Watched) -> None:
    before = watched.metrics()
    client = watched.segment.client
    assert len(tftp(client, LOADER) or b"") > 500_000
    assert tftp(client, "no/such/file") is None
    assert http(client, "images/node/vmlinuz")[0] == 200
    assert http(client, "images/node/vmlinuz", "-r", "0-99")[0] == 206
    assert http(client, "nothing")[0] == 404
    sent = http(client, "images/node/root.squashfs")[1]
    done = client.run(*UDHCPC)
    said = done.stdout + done.stderr
    assert f"lease of {IP} obtained" in said
    discovers, requests = said.count("broadcasting discover"), said.count("broadcasting select")  # on an idle day 1, 1
    done_with = {
        ("pxeboot_dhcp_received_total", "type=discover"): discovers,
        ("pxeboot_dhcp_received_total", "type=request"): requests,
        ("pxeboot_tftp_transfers_total", "result=complete"): 1,
        ("pxeboot_http_requests_total", "code=404"): 1,
    }
    after = watched.until(lambda values: all(values[key] - before[key] >= n for key, n in done_with.items()))

    def more(*labelled: str) -> float:
        return after[labelled] - before[labelled]

    assert more("pxeboot_dhcp_received_total", "type=discover") == discovers
    assert 1 <= more("pxeboot_dhcp_sent_total", "type=offer") <= discovers
    assert more("pxeboot_dhcp_received_total", "type=request") == requests
    assert 1 <= more("pxeboot_dhcp_sent_total", "type=ack") <= requests
    assert more("pxeboot_tftp_requests_total") == 2
    assert more("pxeboot_tftp_transfers_total", "result=complete") == 1
    assert more("pxeboot_tftp_refused_total", "reason=misses") == 1
    assert more("pxeboot_tftp_sent_bytes_total") > 500_000
    assert more("pxeboot_http_requests_total", "code=200") == 2
    assert more("pxeboot_http_requests_total", "code=206") == 1
    assert more("pxeboot_http_requests_total", "code=404") == 1
    assert more("pxeboot_http_sent_bytes_total") > len(sent)
    assert after["pxeboot_farm_nodes",] == 1
    assert after["pxeboot_interfaces", "state=served"] == 1
    assert after["pxeboot_boots_begun_total",] == 1
    assert after["process_resident_memory_bytes",] > 1e7
    assert sum(value for key, value in after.items() if key[0] == "pxeboot_build_info") == 1


RELAY = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("", 67))
sock.settimeout(60)
sock.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 67))
print(sock.recv(4096).hex())
"""


def test_an_option_that_an_answer_has_no_room_for_is_counted(watched: Watched) -> None:
    relay = IPv4Address("10.77.0.99")
    ask = message(MessageType.DHCPDISCOVER, STRANGER, giaddr=relay, options={82: b"\x97" + bytes(300)})
    said = watched.stranger.run(sys.executable, "-c", RELAY, SERVER, ask.encode().hex()).stdout
    assert 82 not in wire.decode(bytes.fromhex(said)).options
    assert status_json(watched.prepared.control)["dhcp"]["transport"]["no room for option: 82"] == 1
    assert watched.until(lambda values: values["pxeboot_dhcp_options_left_out_total", "option=82"] == 1)


@requires("qemu-img")
def test_an_nbd_client_is_counted(watched: Watched) -> None:
    before = watched.metrics()
    watched.segment.client.run("qemu-img", "info", f"nbd://{SERVER}/node")
    after = watched.until(lambda values: values["pxeboot_nbd_accepted_total",] > before["pxeboot_nbd_accepted_total",])
    assert after["pxeboot_nbd_errors_total",] == 0


def test_every_sample_is_of_a_documented_metric_and_about_no_machine(watched: Watched) -> None:
    _, text = watched.page("/metrics")
    known = {metric.name.removesuffix("_total"): metric for metric in catalogue.SERVE}
    for family in text_string_to_metric_families(text):
        metric = known[family.name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(metric.labels)
    for secret in (MAC, IP, "m1", "52-54-00"):
        assert f'"{secret}"' not in text


def test_the_same_is_on_the_control_socket(watched: Watched) -> None:
    socket = str(watched.prepared.control)
    for path, told in (("/metrics", "pxeboot_ready 1.0"), ("/healthz", "ok"), ("/readyz", "ready")):
        said = subprocess.run(
            ["curl", "-s", "--unix-socket", socket, f"http://pxeboot{path}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert told in said.stdout


def test_a_machines_syslog_is_kept_with_it_and_a_strangers_is_not(watched: Watched) -> None:
    before = watched.metrics()
    client, stranger = watched.segment.client, watched.stranger
    for host in (client, stranger):
        for form in ("--rfc3164", "--rfc5424"):
            host.run("logger", "-n", SERVER, "-P", "514", "-d", form, "-t", "kubelet", f"joins with {TOKEN} \x1b[31m")

    def more(values: Values, *key: str) -> float:
        return values[key] - before[key]

    watched.until(
        lambda values: (
            more(values, "pxeboot_machine_lines_total", "source=syslog") == 2
            and more(values, "pxeboot_machine_lines_dropped_total", "reason=stranger") == 2
        )
    )
    lines = [line for line in messages(watched) if line["source"] == "syslog:kubelet"]
    assert [line["text"] for line in lines] == ["joins with ***  [31m"] * 2
    assert TOKEN not in json.dumps(messages(watched))


def test_a_kernel_that_panics_fails_the_boot_in_its_own_words(watched: Watched) -> None:
    """What a machine sent is sent again, as it was recorded."""
    send = (
        "import socket, sys, time\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:\n"
        "    for line in open(sys.argv[1], 'rb'):\n"
        f"        sock.sendto(line, ('{SERVER}', 6666))\n"
        "        time.sleep(0.001)\n"
    )
    for host in (watched.stranger, watched.segment.client):
        host.run(sys.executable, "-c", send, str(PANIC))
    watched.until(lambda values: values["pxeboot_boots_total", "result=failed"] == 1)
    machine = status_json(watched.prepared.control, "m1")
    newest = machine["boot"]["steps"][-1]
    assert (newest["stage"], newest["detail"]) == ("failed", "its kernel panicked: sysrq triggered crash")
    assert [note["text"] for note in machine["boot"]["notes"]] == [
        "a unit of its system failed: Failed to start pxebad.service."
    ]

    def kept() -> bool:
        return any(line["text"].startswith("RIP: ") for line in messages(watched) if line["source"] == "kernel")

    until(kept, "what came after the panic is kept, too")


def messages(watched: Watched) -> list[dict[str, Any]]:
    """What is kept of the machine."""
    said = subprocess.run(
        ["curl", "-s", "--unix-socket", str(watched.prepared.control), "http://pxeboot/v1/machines/m1/log"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines: list[dict[str, Any]] = json.loads(said.stdout)["lines"]
    return lines


def test_each_line_of_the_log_is_an_object_that_says_whom_it_is_about(watched: Watched) -> None:
    by_text = {line["message"]: line for line in watched.lines()}
    [lease] = [line for text, line in by_text.items() if text.startswith(f"dhcp {MAC} has {IP}")]
    assert {**lease, "time": ""} == {
        "time": "", "level": "INFO", "logger": "dhcp", "message": lease["message"],
        "machine": "m1", "mac": MAC, "ip": IP, "stage": "address",
    }  # fmt: skip
    [got] = [line for text, line in by_text.items() if text.startswith(f"tftp {IP} got '{LOADER}'")]
    assert (got["machine"], got["ip"], got["file"]) == ("m1", IP, LOADER)
    assert got["bytes"] > 500_000
    assert got["seconds"] >= 0
    assert any(line.get("machine") == "m1" and line["level"] == "WARNING" for line in watched.lines())
    assert "abcdef.0123456789abcdef" not in watched.daemon.log
    ours = [line["text"] for line in messages(watched) if line["source"] == "pxeboot"]
    assert lease["message"] in ours
    assert got["message"] in ours


def test_it_is_alive_and_ready_and_says_why_when_it_is_not(watched: Watched) -> None:
    assert watched.page("/healthz") == (200, "ok\n")
    assert watched.page("/readyz") == (200, "ready\n")
    assert json.loads(watched.page("/readyz", "-H", "Accept: application/json")[1])["ready"] is True
    core = watched.prepared.folder / "state/boot/grub/x86_64-efi/core.efi"
    core.rename(core.with_suffix(".away"))
    try:
        status, text = watched.page("/readyz")
        assert (status, "x86_64-efi/core.efi" in text) == (503, True)
    finally:
        core.with_suffix(".away").rename(core)
    good = watched.prepared.configuration.read_text()
    watched.prepared.configuration.write_text(good + "nonsense: true\n")
    try:
        deadline = time.monotonic() + 90
        while (told := watched.page("/readyz")) == (200, "ready\n") and time.monotonic() < deadline:
            time.sleep(0.2)
        assert told[0] == 200
        assert "degraded: the farm's file is refused" in told[1]
        watched.until(lambda values: values["pxeboot_config_refused",] > 0)
    finally:
        watched.prepared.configuration.write_text(good)
    watched.segment.server.run("ip", "link", "set", "eth1", "down")
    try:
        deadline = time.monotonic() + 90
        while (told := watched.page("/readyz"))[0] == 200 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert told[0] == 503
        assert "eth1 is not served: it is down" in told[1]
        assert watched.page("/healthz")[0] == 200
        values = watched.until(lambda values: values["pxeboot_ready",] == 0)
        assert values["pxeboot_machines", "state=stuck"] == 1  # of the panic
    finally:
        watched.segment.server.run("ip", "link", "set", "eth1", "up")


def test_the_end_is_a_line_of_json_too(watched: Watched) -> None:
    """The last test: it ends the daemon."""
    watched.daemon.stop()
    assert watched.lines()[-1]["message"] == "stopping"
