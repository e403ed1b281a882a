import os
import re
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path
from textwrap import dedent
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from config.check import check
from config.load import PATHS, ConfigErrors, load
from config.model import Farm
from config.wording import PATTERNS, bare, fields, settings_at
from config.yamltree import Place
from tests.support.segment import requires

FARM = """\
dhcp:
  subnets:
    - {subnet: 10.28.0.0/16, routers: [10.28.0.1], pool: 10.28.72.10-10.28.72.250}
images:
  node: {path: images/node}
clusters:
  prod: {lts_conf: /var/lib/pxeboot/prod.conf}
pools:
  - name: workers
    image: node
    cluster: prod
    tags: [gpu]
    nodes:
      - {name: m1, macs: [52:54:00:12:34:56], ip: 10.28.36.1}
      - {name: m2, macs: [94-57-A5-D3-EC-F2, 9457.a5d3.ecf3], ip: 10.28.72.11}
tags:
  gpu: {labels: {accelerator: nvidia}}
"""
"""A right farm; line 14 and 15 are its machines."""


def write(folder: Path, text: str) -> Path:
    path = folder / "farm.yaml"
    path.write_text(text)
    return path


def said(folder: Path, text: str) -> list[str]:
    """What is wrong in a file with this text, without the file's name."""
    path = write(folder, text)
    try:
        load(path)
    except ConfigErrors as errors:
        lines = str(errors).split("\n")
        assert all(line.startswith(f"{path}:") for line in lines)
        return [line.removeprefix(f"{path}:") for line in lines]
    return []


def test_a_farm_is_read(tmp_path: Path) -> None:
    farm = load(write(tmp_path, FARM))
    assert farm.pools[0].nodes[0].macs == ("52:54:00:12:34:56",)
    assert farm.pools[0].nodes[1].macs == ("94:57:a5:d3:ec:f2", "94:57:a5:d3:ec:f3")
    assert farm.pools[0].nodes[1].ip == IPv4Address("10.28.72.11"), "a static address may lie in the pool"
    assert farm.dhcp.subnets[0].pool is not None
    assert len(farm.dhcp.subnets[0].pool) == 241


def test_relative_paths_begin_at_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "motd").write_text("hello")
    write(tmp_path, FARM + "lts_conf: ../lts.conf\nnode: {files: {motd: {from: motd}, x: {content: y}}}\n")
    monkeypatch.chdir(tmp_path.parent)
    farm = load(Path(tmp_path.name) / "farm.yaml")
    assert farm.images["node"].path == tmp_path / "images/node"
    assert farm.clusters["prod"].lts_conf == Path("/var/lib/pxeboot/prod.conf")
    assert farm.lts_conf == tmp_path / "../lts.conf"
    assert farm.node.files["motd"].from_ == tmp_path / "motd"


def test_all_mistakes_come_in_one_run(tmp_path: Path) -> None:
    text = FARM.replace("{name: m2, macs: [94-57-A5-D3-EC-F2, 9457.a5d3.ecf3], ip: 10.28.72.11}",
                        "{name: m1, macs: [52-54-00-12-34-56], adress: 10.28.72.11, tags: [gpuu]}")  # fmt: skip
    assert said(tmp_path, text) == [
        "15:9: pools[0].nodes[1].ip is missing",
        "15:16: there is already a machine named 'm1' (line 14)",
        "15:27: m1: the MAC 52:54:00:12:34:56 already belongs to m1 (line 14)",
        "15:47: pools[0].nodes[1].adress is not known; here are allowed: name, macs, "
        "client_id, uuid, serial, circuit_id, remote_id, ip, tags, dhcp, boot",
        "15:75: there is no tag 'gpuu'; defined: all, gpu; did you mean 'gpu'?",
    ]


# (what to replace in FARM, by what, the text at the mistake's place, what it says); no place: no mistake
WRONG = [
    ("image: node", "imag: node", "imag:", "imag is not known; .*did you mean 'image'"),
    ("image: node", "image: nod", "nod\n", "no image 'nod'; defined: node; did you mean 'node'"),
    ("image: node", "image: [node]", "[node]", "a list is not a text"),
    ("cluster: prod", "cluster: produ", "produ\n", "no cluster 'produ'; defined: prod; did you mean 'prod'"),
    ("tags: [gpu]", "tags: [all, cpu]", "cpu", "no tag 'cpu'; defined: all, gpu; did you mean 'gpu'"),
    ("tags: [gpu]", "tags: gpu", "gpu\n", "'gpu' is not a list; write \\[gpu\\]"),
    ("tags: [gpu]", "tags: [gpu]\n    root: htp", "htp", "write http, nbd or nbd-to-ram; did you mean 'http'"),
    ("pools:\n", "pools:\n  - {name: workers, image: node}\n", "workers\n", "already a pool named 'workers' .line 9"),
    (
        "ip: 10.28.36.1}",
        "ip: 10.28.72.11}",
        "10.28.72.11}\ntags",
        "m2: the address 10.28.72.11 already belongs to m1 .line 14",
    ),
    ("ip: 10.28.36.1}", "ip: 10.28.36.256}", "10.28.36.256}", "'10.28.36.256' is not an IPv4 address"),
    ("ip: 10.28.36.1}", "ip: 10.29.36.1}", "10.29.36.1}", "m1: 10.29.36.1 is in none of the subnets: 10.28.0.0/16"),
    (
        "ip: 10.28.36.1}",
        "ip: 10.28.0.0}",
        "10.28.0.0}",
        "the network address of 10.28.0.0/16; allowed: 10.28.0.1-10.28.255.2",
    ),
    ("ip: 10.28.36.1}", "ip: 10.28.255.255}", "10.28.255.255}", "the broadcast address"),
    ("ip: 10.28.36.1}", "ip: 10.28.0.1}", "10.28.0.1}", "10.28.0.1 is a router of 10.28.0.0/16"),
    ("ip: 10.28.36.1}", "ip: }", "ip: }", "an empty value is not an IPv4 address"),
    ("name: m1,", "name: M_1,", "M_1", "'M_1' is not a host name"),
    (
        "macs: [52:54:00:12:34:56]",
        "macs: [52:54:00:12:34]",
        "52:54:00:12:34]",
        "is not a MAC address; write six hex pairs",
    ),
    ("macs: [52:54:00:12:34:56]", "macs: []", "{name: m1", "it says not how to know it; give `macs`, or client_id"),
    ("10.28.0.0/16", "10.28.0.0/33", "10.28.0.0/33", "is not a network, such as 10.28.0.0/16$"),
    ("10.28.0.0/16", "10.28.0.9/16", "10.28.0.9/16", "did you mean 10.28.0.0/16"),
    ("pool: 10.28.72.10-10.28.72.250", "pool: 10.28.72.10", "", ""),
    (
        "pool: 10.28.72.10-10.28.72.250",
        "pool: 10.28.72.10-10.29.0.1",
        "10.28.72.10-10.29.0.1",
        "leaves its subnet 10.28.0.0/16",
    ),
    (
        "pool: 10.28.72.10-10.28.72.250",
        "pool: 10.28.0.0-10.28.72.2",
        "10.28.0.0-10.28.72.2",
        "holds 10.28.0.1, which is a router",
    ),
    (
        "pool: 10.28.72.10-10.28.72.250",
        "pool: 10.28.9.9-10.28.255.255",
        "10.28.9.9-10.28.255.255",
        "holds 10.28.255.255, the broadcast",
    ),
    (
        "pool: 10.28.72.10-10.28.72.250",
        "pool: 10.28.9.9-10.28.9.8",
        "10.28.9.9-10.28.9.8",
        "ends at 10.28.9.8, before",
    ),
    (
        "pool: 10.28.72.10-10.28.72.250",
        "pool: 10.28.9.9/24",
        "10.28.9.9/24",
        "not a range; write it as 10.0.0.10-10.0.0.99",
    ),
    ("pool: 10.28.72.10-10.28.72.250", "pool: [10.28.9.9]", "[10.28.9.9]", "a list is not a range"),
    (
        "routers: [10.28.0.1]",
        "routers: [10.28.0.1], unknown: worker",
        "worker, ",
        "no pool 'worker'; .*mean 'workers'",
    ),
    ("routers: [10.28.0.1]", "options: {53: '05'}", "53: '", "option 53 is decided by the server"),
    ("routers: [10.28.0.1]", "options: {82: '05'}", "82: '", "option 82 is decided by the server"),
    (
        "routers: [10.28.0.1]",
        "options: {255: '05'}",
        "255: '",
        "255 is not the number of an option; allowed: 1 to 254",
    ),
    (
        "routers: [10.28.0.1]",
        "options: {x: '05'}",
        "x: '",
        "there is no option 'x'; write a name such as routers, or a number",
    ),
    ("routers: [10.28.0.1]", "options: {150: 0a1}", "0a1}", "'0a1' is not hex; write its bytes"),
    (
        "routers: [10.28.0.1]",
        "options: {224: " + "00" * 1025 + "}",
        "00000",
        "1025 bytes; at most 1024",
    ),
    ("routers: [10.28.0.1]", "options: {150: '0a:1c 00:01', 43: ''}", "", ""),
    (
        "routers: [10.28.0.1]",
        "routers: [], options: {3: 0a1c0001}",
        "3: 0a",
        "option 3 is already given as routers .l",
    ),
    ("routers: [10.28.0.1]", "domain_name: 'a b'", "'a b'", "'a b' is not a domain"),
    ("routers: [10.28.0.1]", "domain_search: [a.example.org, a..b]", "a..b", "'a..b' is not a domain"),
    ("dhcp:\n", "dhcp:\n  lease_s: 1e3\n", "1e3\n", "'1e3' is neither a whole number nor infinite"),
    ("dhcp:\n", "dhcp:\n  lease_s: 5\n", "5\n", "5 is too little; the least allowed is 60"),
    ("dhcp:\n", "dhcp:\n  authoritative: nope\n", "nope", "'nope' is neither true nor false"),
    ("dhcp:\n", "dhcp:\n  authoritative: no\n", "", ""),
    (
        "  subnets:\n",
        "  subnets:\n    - {subnet: 10.28.3.0/24}\n",
        "10.28.0.0/16",
        "10.28.0.0/16 overlaps with 10.28.3.0/24 .line 3",
    ),
    ("images:\n", "images:\n", "", ""),
    ("path: images/node", "path: {x: y}", "{x: y}", "a mapping is not a path"),
    ("images:\n  node: {path: images/node}", "images: []", "[]", "a list is not a mapping of names"),
    (
        "clusters:",
        "server: {address: 10.28.36.1}\nclusters:",
        "10.28.36.1}\n      -",
        "10.28.36.1 is our own address .* .line 6",
    ),
    (
        "clusters:",
        "server: {address: 10.28.72.99}\nclusters:",
        "10.28.72.10-",
        "holds 10.28.72.99, which is our own address",
    ),
    ("clusters:", "server: {nbd_port: 80}\nclusters:", "80}", "server.nbd_port is 80, as is server.http_port"),
    (
        "image: node",
        "image: node\n    writable: {}",
        "writable",
        "`writable` is for `root: nbd`; the pool 'workers' has `root: http`",
    ),
    (
        "image: node",
        "image: node\n    root: nbd\n    writable: {where: memory, keep: always}",
        "always}",
        "`keep: always` needs `where: file`",
    ),
    ("clusters:", "nbd: {default: nod}\nclusters:", "nod}", "no image 'nod'; defined: node"),
    (
        "clusters:",
        "nbd: {tls: {certificate: a, key: b, only: [nod]}}\nclusters:",
        "nod]",
        "no image 'nod'; defined: node",
    ),
    (
        "clusters:",
        "server: {files: lib}\nlts_conf: lib/x/../lts.conf\nclusters:",
        "lib}",
        "server.files is .*/lib', where any machine could fetch every machine's lts.conf: .*/lts.conf .line",
    ),
    (
        "clusters:",
        "server: {files: /var/lib}\nclusters:",
        "/var/lib}",
        "server.files is '/var/lib', where any machine could fetch our state: /var/lib/pxeboot",
    ),
    (
        "tags:\n  gpu",
        "server: {files: x}\nhttp: {tls: {certificate: a, key: x/b}}\ntags:\n  gpu",
        "x}",
        "any machine could fetch the private key: .*/x/b .line",
    ),
    ("clusters:", "server: {files: /srv/tftp}\nlts_conf: /srv/tftp2/lts.conf\nclusters:", "", ""),
    (
        "clusters:",
        "http: {tls: {certificate: a, key: b, port: 80}}\nclusters:",
        "80}",
        "http.tls.port is 80, as is server.http_port",
    ),
    (
        "clusters:",
        "http: {tls: {certificate: a, key: b, port: 10809}}\nclusters:",
        "10809}",
        "http.tls.port is 10809, as is server.nbd_port",
    ),
    (
        "clusters:",
        "server: {http_port: 443}\nhttp: {tls: {certificate: a, key: b}}\nclusters:",
        "{certificate",
        "http.tls.port is 443, as is server.http_port",
    ),
    ("clusters:", "server: 5\nclusters:", "5\nclusters", "server: '5' is not a mapping of keys and values"),
    ("{lts_conf:", "{join_key: X, lts_conf:", "X,", "'X' is not such a key; write RCFILE_"),
    ("accelerator:", "kubernetes.io/os:", "", ""),
    ("accelerator:", "topology.kubernetes.io/zone:", "", ""),
    ("accelerator:", "node.kubernetes.io/x:", "", ""),
    ("accelerator:", "x.kubelet.kubernetes.io/x:", "", ""),
    ("accelerator:", "notkubernetes.io/x:", "", ""),
    (
        "accelerator:",
        "node-role.kubernetes.io/worker:",
        "node-role.kubernetes.io/worker:",
        "not one that a kubelet may set on itself",
    ),
    (
        "accelerator:",
        "k8s.io/worker:",
        "k8s.io/worker:",
        "not one that a kubelet may set on itself; use a domain of your own",
    ),
    ("accelerator:", "kubernetes.io/hostnam:", "kubernetes.io/hostnam:", "did you mean 'kubernetes.io/hostname'"),
    (
        "accelerator:",
        "node-restriction.kubernetes.io/x:",
        "node-restriction.kubernetes.io/x:",
        "not one that a kubelet may set on itself",
    ),
    ("accelerator:", "Example.com/x:", "Example.com/x:", "prefix that is not a domain in small letters"),
    ("accelerator:", "/x:", "/x:", "prefix that is not a domain"),
    ("accelerator:", "a/b/c:", "a/b/c:", "prefix that is not a domain"),
    ("accelerator:", "-x:", "-x:", "name that is not allowed; write at most 63"),
    (
        "accelerator:",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx:",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx:",
        "name that is not allowed; write at most 63",
    ),
    ("nvidia", "'a b'", "'a b'", "the label accelerator cannot be 'a b'"),
    ("nvidia", "1.10", "", ""),
    ("gpu: {", "gpu: {lts: {fstab: x}, ", "fstab", "'fstab' is not an lts.conf key"),
    ("gpu: {", 'gpu: {lts: {X: "a\\nb"}, ', '"a\\n', "must be a single line, without control characters$"),
    ("gpu: {", 'gpu: {lts: {X: "a\\n"}, ', '"a\\n', "single line.*; write >- or |-"),
    ("gpu: {", 'gpu: {kernel_parameters: ["a\\0"], ', '"a\\0"', "must be a single line"),
    ("gpu: {", "gpu: {taints: [{key: a, effect: NoExecut}], ", "NoExecut}", "did you mean 'NoExecute'"),
    ("gpu: {", "gpu: {taints: [{key: 'a b', effect: NoExecute}], ", "'a b'", "the taint 'a b' has a name"),
    ("gpu: {", "gpu: {taints: [{key: a, value: '-', effect: NoExecute}], ", "'-'", "the taint a cannot be '-'"),
    ("tags:\n  gpu", "node: {files: {x: {}}}\ntags:\n  gpu", "{}}}\n", "neither `from` nor `content`; give one"),
    (
        "tags:\n  gpu",
        "node: {files: {x: {from: a, content: b}}}\ntags:\n  gpu",
        "{from: a",
        "both `from` and `content`",
    ),
    ("tags:\n  gpu", "node: {files: {x: {from: gone}}}\ntags:\n  gpu", "gone", "gone' cannot be read: No such file"),
    ("tags:\n  gpu", "node: {files: {x: {from: .}}}\ntags:\n  gpu", ".}}}", "is not a file"),
    ("tags:\n  gpu", 'node: {files: {x: {from: "a\\0"}}}\ntags:\n  gpu', '"a', "cannot be read: embedded null"),
    ("tags:\n  gpu", "node: {files: {x: {content: a, mode: 999}}}\ntags:\n  gpu", "999", "is not a file mode; write"),
    ("tags:\n  gpu", "node: {files: {../x: {content: a}}}\ntags:\n  gpu", "../x", "'../x' is not the path of a file"),
    ("tags:\n  gpu", "node: {files: {/etc/: {content: a}}}\ntags:\n  gpu", "/etc/:", "'/etc/' is not the path"),
    ("tags:\n  gpu", "node: {files: {/: {content: a}}}\ntags:\n  gpu", "/: {", "'/' is not the path"),
    (
        "tags:\n  gpu",
        "node: {files: {a: {content: x}, a/b: {content: y}}}\ntags:\n  gpu",
        "a/b",
        "'a/b' lies below 'a', which is a file itself",
    ),
    *(
        ("tags:\n  gpu", f"node: {{files: {{{path}: {{content: x}}}}}}\ntags:\n  gpu", f"{path}:" if why else "", why)
        for path, why in (
            ("/etc", "'/etc' is a folder that other files lie in, such as /etc/hostname"),
            ("/usr/lib", "is a folder that other files lie in, such as /usr/lib/"),
            ("/usr/lib/pxeboot", "lies in /usr/lib/pxeboot, where our scripts are"),
            ("/usr/lib/pxeboot/report", "lies in /usr/lib/pxeboot"),
            ("/etc/hostname/x", "lies below /etc/hostname, which is a file that we make"),
            ("/etc/lts.conf", "is a file that we make ourselves"),
            ("/etc/localtime", "is a file that we make ourselves"),
            ("pxeboot-report.service", "is a file that we make ourselves"),
            ("/etc/systemd/system/pxeboot-rcfile.service", "is a file that we make ourselves"),
            ('"/etc/a\\nb"', "is not the path of a file"),
            ("/etc/hosts", ""),
            ("/root/.ssh/authorized_keys", ""),
            ("/etc/systemd/system/h.service", ""),
            ("hostname", ""),
        )
    ),
    (
        "tags:\n  gpu",
        "node: {files: {h.service: {content: x}, /etc/systemd/system/h.service: {content: y}}}\ntags:\n  gpu",
        "/etc/s",
        "is the same file as 'h.service': /etc/systemd/system/h.service",
    ),
    (
        "tags:\n  gpu",
        "node: {files: {/etc/pxeboot/a/b: {content: x}, a: {content: y}}}\ntags:\n  gpu",
        "/etc/p",
        "'/etc/pxeboot/a/b' lies below 'a', which is a file itself",
    ),
    ("tags:\n  gpu", "node: {services: ['a b']}\ntags:\n  gpu", "'a b'", "'a b' is not the name of a systemd unit"),
    ("tags:\n  gpu", "node: {services: [/x]}\ntags:\n  gpu", "/x", "'/x' is not the name of a systemd unit"),
    ("gpu: {", 'gpu: {services: ["a\\n"], ', '"a\\n"', "is not the name of a systemd unit"),
    ("tags:\n  gpu", "node: {modules: ['a x=1']}\ntags:\n  gpu", "'a x=1'", "is not the name of a kernel module"),
    ("tags:\n  gpu", "node: {modules: ['']}\ntags:\n  gpu", "''", "is not the name of a kernel module"),
    ("tags:\n  gpu", 'node: {sysctls: {"a\\nb": 1}}\ntags:\n  gpu', '"a', "is not the name of a kernel setting"),
    ("tags:\n  gpu", "node: {sysctls: {a=b: 1}}\ntags:\n  gpu", "a=b", "is not the name of a kernel setting"),
    ("tags:\n  gpu", "node: {sysctls: {net/ipv4/ip_forward: 1}}\ntags:\n  gpu", "", ""),
    *(
        ("tags:\n  gpu", f"node: {{timezone: {name}}}\ntags:\n  gpu", at, "is not a name of the tz database")
        for name, at in (
            ("../etc/shadow", "../"),
            ("/etc/x", "/etc/x"),
            ("a//b", "a//b"),
            ('"a\\n"', '"a'),
            ("''", "timezone"),
        )
    ),
    *(
        ("tags:\n  gpu", f"node: {{timezone: {n}}}\ntags:\n  gpu", "", "")
        for n in ("Etc/GMT+5", "Europe/Prague", "UTC")
    ),
    (
        "tags:\n  gpu",
        "node: {root_password_hash: 'a:b'}\ntags:\n  gpu",
        "'a:b'",
        "is not a password's hash; write what",
    ),
    ("tags:\n  gpu", "node: {root_password_hash: [geheim]}\ntags:\n  gpu", "[geheim", "this value is not a text"),
    ("tags:\n  gpu", "node: {sysctls: {vm.x: 1}}\ntags:\n  gpu", "", ""),
    ("tags:\n  gpu", "tags: {}\ntags:\n  gpu", "gpu]", "no tag 'gpu'; defined: all"),
    (
        "tags:\n  gpu",
        "nodes: {}\ntags:\n  gpu",
        "nodes: {}",
        "nodes is not known; .*; it stands in pools...nodes, or did you mean 'node'",
    ),
]


@pytest.mark.parametrize(("old", "new", "at", "message"), WRONG, ids=[f"{row[1][:50]!r}" for row in WRONG])
def test_a_mistake_is_shown_with_its_place(tmp_path: Path, old: str, new: str, at: str, message: str) -> None:
    assert old in FARM
    text = FARM.replace(old, new, 1)
    found = said(tmp_path, text)
    if not at:
        assert found == []
        return
    before = text[: text.index(at)]
    where = f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
    assert any(re.search(f"^{where}: .*{message}", line) for line in found), (where, found)
    assert not any("geheim" in line for line in found)


@pytest.mark.parametrize("files", [".", "../{}", "sub/..", "/"])
def test_the_configuration_itself_is_not_for_everybody(tmp_path: Path, files: str) -> None:
    """It holds the hash of a password."""
    folder = files.format(tmp_path.name)
    lines = said(tmp_path, FARM.replace("clusters:", f"server: {{files: {folder}}}\nclusters:"))
    assert any(line.startswith("6:") and "could fetch this file: " in line for line in lines), lines


def test_a_mistake_draws_no_others_after_it(tmp_path: Path) -> None:
    text = dedent("""\
        dhcp: {subnets: [{subnet: 10.28.0.0-16}]}
        images: {node: {}}
        clusters: {prod: {lts_conf: x, token_ttl_s: y}}
        pools:
          - {name: [a], image: node, cluster: prod, tags: [t], nodes: [
              {name: A, macs: [5], ip: 10.28.0.300},
              {name: B, macs: [6], ip: 10.28.0.301},
              {name: c, macs: [525400123456], ip: 10.28.0.3}]}
          - {name: b, nodes: [{name: c, macs: [525400123456], ip: 10.28.0.3}]}
        tags: {t: {labels: 5}}
        """)
    kinds = [line.split(": ", 1)[1] for line in said(tmp_path, text)]
    assert kinds == [
        "dhcp.subnets[0].subnet: '10.28.0.0-16' is not a network, such as 10.28.0.0/16",
        "images.node.path is missing",
        "clusters.prod.token_ttl_s: 'y' is not a whole number",
        "pools[0].name: a list is not a text",
        "pools[0].nodes[0].name: 'A' is not a host name; "
        + PATTERNS["^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$"].split("; ")[1]
        + "; did you mean 'a'?",
        "pools[0].nodes[0].macs[0]: '5' is not a MAC address; write six hex pairs, such as 94:57:a5:d3:ec:f2",
        "pools[0].nodes[0].ip: '10.28.0.300' is not an IPv4 address, such as 10.28.0.1",
        "pools[0].nodes[1].name: 'B' is not a host name; "
        + PATTERNS["^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$"].split("; ")[1]
        + "; did you mean 'b'?",
        "pools[0].nodes[1].macs[0]: '6' is not a MAC address; write six hex pairs, such as 94:57:a5:d3:ec:f2",
        "pools[0].nodes[1].ip: '10.28.0.301' is not an IPv4 address, such as 10.28.0.1",
        "pools[1].image is missing",
        "there is already a machine named 'c' (line 8)",
        "c: the MAC 52:54:00:12:34:56 already belongs to c (line 8)",
        "c: the address 10.28.0.3 already belongs to c (line 8)",
        "tags.t.labels: '5' is not a mapping of names and values",
    ]


UNREADABLE = [
    pytest.param(b"", "1:1: the file is empty", id="empty"),
    pytest.param(b"# x\n---\n", "3:1: the file is empty", id="only-comments"),
    pytest.param(b"- a\n", "1:1: this is no farm's file", id="a-list"),
    pytest.param(b"a: 1\nb: caf\xe9\n", "2:7: the byte 0xe9 is not UTF-8", id="latin-1"),
    pytest.param("a: é\nbé: \x01".encode(), "2:5: the character", id="control-character"),
    pytest.param(b"a: " + b"[" * 20000, "1:53: values are nested", id="20000-brackets"),
    pytest.param(b"dhcp: {a: 1, a: 2\n", "1:14: the key 'a' is already there", id="syntax-after-a-duplicate"),
]


@pytest.mark.parametrize(("data", "message"), UNREADABLE)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "farm.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigErrors, match=f"farm.yaml:{re.escape(message)}"):
        load(path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "farm.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + FARM.encode())
    assert load(path).pools[0].name == "workers"


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"gone.yaml:1:1: cannot be read: No such file"):
        load(tmp_path / "gone.yaml")
    with pytest.raises(ConfigErrors, match=r":1:1: cannot be read: Is a directory"):
        load(tmp_path)


@pytest.mark.parametrize("tags", ["[all]", "[]"])
def test_the_tag_all_is_there_without_being_defined(tmp_path: Path, tags: str) -> None:
    assert said(tmp_path, FARM.replace("tags: [gpu]", f"tags: {tags}")) == []


def test_without_subnets_addresses_are_somebody_elses_matter(tmp_path: Path) -> None:
    assert said(tmp_path, FARM.replace(FARM[: FARM.index("images:")], "")) == []


def test_the_smallest_networks_have_no_edges(tmp_path: Path) -> None:
    small = (
        "dhcp: {subnets: [{subnet: 10.0.0.0/31, pool: 10.0.0.0-10.0.0.1}, {subnet: 10.0.0.7/32, pool: 10.0.0.7}]}\n"
    )
    assert said(tmp_path, small) == []


def big_farm(machines: int) -> str:
    node = "      - {{name: n{0}, macs: [52:54:00:00:{1:02x}:{2:02x}, 525401-{1:02x}00{2:02x}], ip: 10.28.{1}.{2}}}\n"
    nodes = "".join(node.format(n, n // 250 + 1, n % 250 + 1) for n in range(machines))
    return FARM[: FARM.index("      - {name")] + nodes + FARM[FARM.index("tags:\n  gpu") :]


def test_a_thousand_machines_are_read_in_no_time(tmp_path: Path) -> None:
    path = write(tmp_path, big_farm(1000))
    times = []
    for _ in range(3):
        begin = process_time()
        farm = load(path)
        times.append(process_time() - begin)
    assert len(farm.pools[0].nodes) == 1000
    print(f"\n1,000 machines with two MACs each: {min(times) * 1000:.0f} ms")
    assert min(times) < 0.2


def test_a_thousand_mistakes_are_said_in_no_time(tmp_path: Path) -> None:
    begin = process_time()
    found = said(tmp_path, big_farm(1000).replace("ip: 10.28", "ip: 10.27"))
    assert len(found) == 1000
    assert process_time() - begin < 2


# Everything that a person could put where something else belongs.
odd = st.recursive(
    st.sampled_from(["x", "", "5", "-1", "10.28.0.1", "true", "~", "node", "a b", "10.28.0.0/16", "{}", "[]"]),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from(["a", "name", "path"]), inner, max_size=2).map(
            lambda d: "{" + ", ".join(f"{k}: {v}" for k, v in d.items()) + "}"
        )
    ),
    max_leaves=4,
)
SPOTS = [
    (m.start(1), m.end(1)) for m in re.finditer(r"(?<=[:\[,] )([\w./:-]+|\[[^\]{]*\]|\{[^}{]*\})(?=[\n,}\]])", FARM)
]


@settings(max_examples=150)
@given(spot=st.sampled_from(SPOTS), value=odd)
def test_any_value_anywhere_is_a_farm_or_a_list_of_mistakes(
    tmp_path_factory: pytest.TempPathFactory, spot: tuple[int, int], value: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.yaml"
    path.write_text(FARM[: spot[0]] + value + FARM[spot[1] :])
    try:
        assert isinstance(load(path), Farm)
        return
    except ConfigErrors as errors:
        mistakes = errors.mistakes
    assert mistakes
    assert all(mistake.line >= 1 and mistake.column >= 1 for mistake in mistakes)
    assert all(mistake.message and "\n" not in mistake.message for mistake in mistakes)


def leaves(model: type[BaseModel], place: Place = ()) -> list[tuple[Place, Any, Any]]:
    """Every setting: its place, its bare type and its field."""
    found: list[tuple[Place, Any, Any]] = []
    for name, field in zip(fields(model), model.model_fields.values(), strict=True):
        kind, at = bare(field.annotation), (*place, name)
        while getattr(kind, "__origin__", None) in (tuple, dict):
            kind, at = bare(kind.__args__[-1 if kind.__origin__ is dict else 0]), (*at, "*")
        inner = settings_at(tuple(0 if part == "*" else part for part in at))
        found += leaves(inner, at) if inner is not None else [(at, kind, field)]
    return found


def test_every_path_of_the_model_is_made_absolute() -> None:
    assert {place for place, kind, _ in leaves(Farm) if kind is Path} == set(PATHS)


def test_every_pattern_of_the_model_has_its_words() -> None:
    used = set(re.findall(r"'pattern': '([^']*)'", str(Farm.__pydantic_core_schema__)))
    used |= set(re.findall(r"pattern='([^']*)'", str([field.metadata for *_, field in leaves(Farm)])))
    assert used
    assert used <= set(PATTERNS)


def test_a_farm_that_no_file_describes_is_checked_too() -> None:
    farm = Farm.model_validate({"pools": [{"name": "a", "image": "b"}], "images": {"c": {"path": "/c"}}})
    assert [(finding.place, finding.message) for finding in check(farm)] == [
        (("pools", 0, "image"), "there is no image 'b'; defined: c")
    ]


@requires("setpriv")
def test_a_file_that_we_may_not_read_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0)
    path = write(tmp_path, FARM + "node: {files: {x: {from: secret}}}\n")
    argv = [
        sys.executable,
        "-c",
        "import sys; from pathlib import Path; from config.load import load; load(Path(sys.argv[1]))",
    ]
    if os.geteuid() == 0:  # root reads everything
        argv = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *argv]
    result = subprocess.run([*argv, str(path)], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert result.returncode == 1
    place = f"{path}:18:26"
    assert f"{place}: the file '{tmp_path}/secret' cannot be read: Permission denied" in result.stderr


@pytest.mark.parametrize(
    ("tls", "root", "said_of_it"),
    [
        ("mode: required", "nbd", "a machine's kernel has no TLS, and nbd.tls.mode is required"),
        ("mode: offered, only: [node]", "nbd-to-ram", "and nbd.tls.only names its image"),
        ("mode: offered", "nbd", None),
        ("mode: required", "http", None),
    ],
)
def test_machines_without_tls_are_not_given_roots_that_need_it(
    tmp_path: Path, tls: str, root: str, said_of_it: str | None
) -> None:
    farm = FARM.replace("image: node", f"image: node\n    root: {root}")
    lines = said(tmp_path, f"nbd: {{tls: {{certificate: a, key: b, {tls}}}}}\n{farm}")
    assert len(lines) == (said_of_it is not None)
    assert said_of_it is None or said_of_it in lines[0]
