"""A farm whose names are as long as they may be and whose machines have much to say: what a page must still hold."""

from pathlib import Path

from config.events import Stage
from config.model import Farm
from pxeboot.selftest.findings import Finding
from pxeboot.timeline import Timeline
from pxeboot.web import passwords
from tests.support.made_up_farm import Teller, story

S = Stage
MACHINES = 24
LONG = "x" * 62
"""One less than the longest label of a name (RFC 1123), without a place to break it."""
HYPHENS = "rack-with-a-very-long-name-in-the-second-cellar-by-the-river-"
PASSWORD = "correct horse"
TEXT = """\
server: {{interfaces: [eth1], address: 10.28.0.2, state: {state}, control: {state}/control.sock}}
web: {{listen: ["127.0.0.1:8067"], users: {state}/users}}
dhcp: {{subnets: [{{subnet: 10.28.0.0/16, pool: 10.28.72.10-10.28.72.250, unknown: {pool}}}]}}
images:
  node: {{path: {state}/images/node}}
  gpu-with-a-driver-of-last-year-for-the-machines-of-the-old-rack: {{path: {state}/images/gpu}}
clusters: {{prod: {{api_server: "10.28.0.10:6443"}}}}
pools:
  - name: {pool}
    image: node
    cluster: prod
    nodes:
"""
REASON = (
    "mount: /run/pxeboot/root: wrong fs type, bad option, bad superblock on /dev/loop0, missing codepage or helper "
    "program, or other error; the kernel says: squashfs error: unable to read id index table at "
    "/images/4f1c2a9be07d4f1c2a9be07d4f1c2a9be07d4f1c2a9be07d4f1c2a9be07d4f1c/root.squashfs"
)
FINDINGS = (
    Finding("error", "UDP port 67", "Another program has UDP port 67: `dnsmasq` (process 4711)",
            "`systemctl disable --now dnsmasq`, or tell it `port=0` and `except-interface=eth1`"),
    Finding("error", "image gpu", f"The image at /srv/{LONG}/gpu has no kernel", "`pxeboot image build`"),
    Finding("warning", "clock", "Nobody sets this host's clock: tokens and certificates may look expired",
            "`apt install chrony`"),
    Finding("note", "interface eth1", "Checksums of eth1 are made by the card"),
)  # fmt: skip
REFUSED = [f"/etc/pxeboot/farm.yaml:{line}:5: pools[{line}].nodes[0].ip: {LONG} is no address" for line in range(12)]


POOL = "pool-" + LONG[:57]


def name(number: int) -> str:
    """Return the name of a machine: 63 characters, in one or in many words."""
    return (LONG[:-1] + f"{number:02}") if number % 3 == 0 else (HYPHENS + f"{number:02}")


def text(state: Path) -> str:
    """Return the file of that farm, and write its users into `state`."""
    (state / "users").write_text(f"anna:{passwords.keep(PASSWORD)}\n")
    (state / "users").chmod(0o640)
    farm = TEXT.format(state=state, pool=POOL)
    for number in range(MACHINES):
        boot = ", boot: once" if number % 5 == 1 else ""
        mac = f"94:57:a5:d3:ec:{number:02x}"
        farm += f"      - {{name: {name(number)}, macs: [{mac}], ip: 10.28.136.{144 + number}{boot}}}\n"
    return farm


def tell(farm: Farm, timeline: Timeline, now_s: float) -> None:
    """Tell of its machines: some fail with long words, some are on their way, most are up, some are silent."""
    teller = Teller(farm, timeline, now_s)
    for number in range(MACHINES):
        one = name(number)
        if number < 18:
            for day in range(8, 1, -1):
                teller.up(one, day * 86400.0 * 30 + number * 61)
        match number:
            case 0 | 1:
                teller.tell(one, 990, [*story(teller.ip(one))[:7], (S.FAILED, 18.0, REASON)])
            case 2:
                teller.until(one, 372, S.ADDRESS)
            case 3 | 4:
                waits = f"waits for its turn: {number * 100} before it, asks again in 9 s"
                teller.tell(one, 26, [*story(teller.ip(one))[:7], (S.WAITING, 19.0, waits)])
            case 5 | 6:
                teller.until(one, 24, S.FETCH, "71 % of 80 MiB", 5)
            case 7 | 8 | 9:
                teller.until(one, 50, S.APPROVED, f"its certificate request node-csr-{LONG} is approved")
            case 10 | 12:
                teller.up(one, 600)
                refused = f"10.28.99.{number} asked for the join command of {one}, and is not it"
                timeline.record(one, S.REFUSED, refused, now_s - 300)
            case 18 | 19:
                teller.until(one, 4000, S.DISCOVER)
                teller.tell(one, 372, [(S.ADDRESS, 0.0, "10.28.136.162, boots 'somebody/elses/boot/file.efi'")])
            case _:
                pass
