"""A farm that nobody has, with a believable day behind it: for the page's tests, its measurement, and screenshots."""

import re
from ipaddress import IPv4Address
from pathlib import Path

from config.clusters import Cluster
from config.events import Stage
from config.model import Farm, Image, Node, Pool
from dhcp.options import MessageType
from dhcp.others import Given, Other
from pxeboot.timeline import Machine, Timeline

S = Stage
NOW = "4f1c2a9be07d"
"""A version of an image, as far as it is shown."""
MIB = 80
BOOT = "grub/x86_64-efi/core.efi"

_SENT = re.compile(r"(\d+) bytes in ([0-9.]+) s")
Step = tuple[Stage, float, str]


def version(short: str) -> str:
    """Return a whole version, of one or of its beginning."""
    return short.ljust(64, "0")


def story(ip: str, short: str = NOW) -> list[Step]:
    """Return a boot that goes well, its times from its start in seconds."""
    token = "token 8c1f0a was made for it"
    return [
        (S.DISCOVER, 0.0, "UEFI x64 (PXEClient), asks for an address"),
        (S.ADDRESS, 3.7, f"{ip}, boots '{BOOT}'"),
        (S.LOADER, 3.9, f"'{BOOT}': 708608 bytes in 0.1 s over TFTP"),
        (S.MENU, 4.4, "'grub.cfg-01': 923 bytes in 0.0 s over HTTP"),
        (S.KERNEL, 6.8, "'vmlinuz': 14186432 bytes in 2.4 s over HTTP"),
        (S.INITRD, 9.1, "'initrd.img': 16421955 bytes in 2.3 s over HTTP"),
        (S.NETWORK, 17.5, f"6.1.0-56-amd64, {ip} by DHCP"),
        (S.FETCH, 17.9, f"100 % of {MIB} MiB"),
        (S.VERIFIED, 22.0, f"sha256 {version(short)}"),
        (S.ROOT, 22.2, "squashfs over http, writable layer in RAM"),
        (S.PREPARED, 24.1, "host name set; 2 keys of lts.conf"),
        (S.SYSTEM, 41.7, "multi-user reached"),
        (S.TOKEN, 41.9, token),
        (S.FETCHED, 42.0, f"its join command, from {ip}"),
        (S.JOINING, 42.3, "kubeadm join 10.28.0.10:6443 --token ***"),
        (S.APPROVED, 47.8, "its certificate request is approved"),
        (S.REGISTERED, 49.8, "its Node is there"),
        (S.READY, 56.0, "its Node is Ready"),
    ]


class Teller:
    """Tells a timeline what happened to made-up machines."""

    def __init__(self, farm: Farm, timeline: Timeline, now_s: float) -> None:
        """`now_s` is the time to which all ages are counted, in seconds since 1970."""
        self.timeline = timeline
        self._now_s = now_s
        self._nodes = {node.name: (pool, node) for pool in farm.pools for node in pool.nodes}

    def tell(self, name: str, ago_s: float, steps: list[Step]) -> Machine:
        """Tell that a boot of `name` began `ago_s` seconds ago."""
        for stage, at_s, detail in steps:
            sent = _SENT.search(detail)
            size_bytes, took_s = (int(sent[1]), float(sent[2])) if sent else (0, 0.0)
            if detail == f"100 % of {MIB} MiB":
                size_bytes, took_s = MIB << 20, 3.6
            machine = self.timeline.record(name, stage, detail, self._now_s - ago_s + at_s, size_bytes, took_s)
        if name in self._nodes:
            pool, node = self._nodes[name]
            machine.mac, machine.ip, machine.pool = node.macs[0], str(node.ip), pool.name
        return machine

    def up(self, name: str, ago_s: float, short: str = NOW, pace: float = 1.0) -> None:
        """Tell that `name` booted well, and what it runs."""
        self.tell(name, ago_s, [(stage, at_s * pace, said) for stage, at_s, said in story(self.ip(name), short)])
        self.timeline.keep_report(name, f"== hostname\n{name}\n== image\n{version(short)}\n")

    def until(self, name: str, ago_s: float, last: Stage, said: str | None = None, late_s: float = 0.0) -> None:
        """Tell that `name` began to boot `ago_s` ago and came to `last`, where it said `said` `late_s` later."""
        steps = story(self.ip(name))
        steps = steps[: [stage for stage, _, _ in steps].index(last) + 1]
        if said is not None:
            steps.append((last, steps[-1][1] + late_s, said))
        self.tell(name, ago_s, steps)

    def ip(self, name: str) -> str:
        """Return the address of a machine of the farm."""
        return str(self._nodes[name][1].ip)


def many(count: int) -> Farm:
    """Return a farm of `count` machines in eight pools."""
    pools: list[list[Node]] = [[] for _ in range(8)]
    for number in range(count):
        rack, place = divmod(number, 40)
        mac = f"94:57:a5:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
        node = Node(name=f"m{rack + 1}c{place + 1}", macs=(mac,), ip=IPv4Address("10.28.32.1") + number)
        pools[number % 8].append(node)
    return Farm(
        images={"node": Image(path=Path("/srv/pxeboot/images/node"))},
        clusters={"prod": Cluster()},
        pools=tuple(
            Pool(name=f"pool{number}", image="node", cluster="prod", nodes=tuple(nodes))
            for number, nodes in enumerate(pools)
        ),
    )


def busy(count: int, now_s: float) -> tuple[Farm, Timeline]:
    """Return a farm of `count` machines: most up, some on their way, some stuck, some not seen."""
    farm, timeline = many(count), Timeline()
    teller = Teller(farm, timeline, now_s)
    for number, name in enumerate(node.name for pool in farm.pools for node in pool.nodes):
        match number % 20:
            case 0:
                teller.until(name, 300, S.ADDRESS)
            case 1 | 2 | 3:
                teller.until(name, 30, S.FETCH, f"{number % 97} % of {MIB} MiB", 10)
            case 4:
                pass
            case _:
                teller.up(name, 3600 + number)
    return farm, timeline


def at_once(count: int, now_s: float) -> tuple[Farm, Timeline]:
    """Return a farm of `count` machines that all fetch their roots."""
    farm, timeline = many(count), Timeline()
    teller = Teller(farm, timeline, now_s)
    for name in [node.name for pool in farm.pools for node in pool.nodes]:
        teller.until(name, 20, S.FETCH, f"0 % of {MIB} MiB", 1)
    return farm, timeline


def storm(timeline: Timeline, names: list[str], now_s: float, turn: int) -> None:
    """Let all these machines come a little further, as in a farm that boots at once."""
    for number, name in enumerate(names):
        timeline.record(name, S.FETCH, f"{(turn * 3 + number) % 100} % of {MIB} MiB", now_s)


BELIEVABLE = """\
# yaml-language-server: $schema=farm.schema.json
server: {{interfaces: [eth1], address: 10.28.0.2, state: {state}, control: {state}/control.sock}}
web: {{listen: ["10.28.0.2:8067"]}}
machine_logs: {{syslog_port: 514, netconsole_port: 6666}}
dhcp:
  lease_s: 86400
  subnets:
    - subnet: 10.28.0.0/16
      routers: [10.28.0.1]
      domain_name_servers: [10.28.0.1]
      pool: 10.28.72.10-10.28.72.250
      unknown: workers
images:
  node: {{path: {state}/images/node}}
  gpu: {{path: {state}/images/gpu}}
clusters:
  prod: {{api_server: "10.28.0.10:6443"}}
pools:
"""
POOLS = (
    ("workers", "{name: workers, image: node, cluster: prod}", range(1, 25)),
    ("gpu", "{name: gpu, image: gpu, cluster: prod, tags: [gpu]}", range(25, 33)),
    ("storage", "{name: storage, image: node, root: nbd, cluster: prod}", range(33, 41)),
)
TAGS = """\
tags:
  all:
    lts: {FSTAB_01_CONTAINERD: "tmpfs /var/lib/containerd tmpfs size=50% 0 0"}
  gpu:
    dhcp: {mtu: 9000}
    labels: {accelerator: nvidia}
node:
  timezone: Europe/Prague
"""


def text(state: Path) -> str:
    """Return the file of a farm of some 40 machines."""
    farm = BELIEVABLE.format(state=state)
    for _, pool, places in POOLS:
        farm += f"  - {pool[1:-1].replace(', ', chr(10) + '    ').replace('tags:' + chr(10) + '    ', 'tags: ')}\n"
        farm += "    nodes:\n"
        for n in places:
            local = ", boot: local" if n == 40 else ""
            farm += f"      - {{name: m1c{n}, macs: [94:57:a5:d3:ec:{n:02x}], ip: 10.28.36.{144 + n}{local}}}\n"
    return farm + TAGS


def believe(farm: Farm, timeline: Timeline, now_s: float, now: str, old: str, gpu: str) -> Other:
    """Tell the story of that farm in the middle of an update from version `old` to `now`; return somebody's server."""
    teller = Teller(farm, timeline, now_s)
    for n in range(1, 41):
        short = gpu if 25 <= n < 33 else old
        if n in (12, 33, 39):
            continue
        for day in range(n % 3 + 2, 1, -1):
            teller.up(f"m1c{n}", day * 86400.0 + n * 61, short, 1 + n % 7 / 30)
    for n in (3, 4, 5, 6, 7, 8, 9, 10, 13, 14):
        teller.up(f"m1c{n}", 600 - n * 22, now, 1 + n % 5 / 30)
    for place, n in enumerate((15, 16, 17, 18)):
        teller.until(f"m1c{n}", 24 + place, S.FETCH, f"{71 - 17 * place} % of {MIB} MiB", 5)
    teller.until("m1c19", 8, S.KERNEL)
    teller.until("m1c20", 31, S.PREPARED)
    teller.until("m1c21", 50, S.JOINING)
    for place, n in enumerate((22, 23)):
        waits = f"waits for its turn: {place} before it, asks again in 9 s"
        teller.tell(f"m1c{n}", 26, [*story(teller.ip(f"m1c{n}"))[:7], (S.WAITING, 19.0, waits)])
    teller.until("m1c11", 372, S.ADDRESS)
    teller.until("m1c28", 1260, S.INITRD)
    steps = story(teller.ip("m1c24"))[:7]
    no_room = "the image has 80 MiB, this machine's RAM leaves 62 MiB for it; use root: nbd"
    teller.tell("m1c24", 940, [*steps, (S.FAILED, 18.0, no_room)])
    teller.tell("m1c40", 5400, [*story(teller.ip("m1c40"))[:4],
                (S.DISK, 4.6, "goes on with its own disk: its boot intent is local (the farm's file)")])  # fmt: skip
    office = Other(IPv4Address("10.28.0.254"), "f4:8c:50:1e:77:02", "eth1", now_s - 5000, now_s - 410, 6)
    office.address = Given(MessageType.DHCPOFFER, "94:57:a5:d3:ec:0b", "m1c11", IPv4Address("10.28.99.17"), 600)
    office.ours, office.machines = 3, ("m1c11",)
    return office
