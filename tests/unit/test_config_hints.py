"""What newcomers write, and what they are told to write for it."""

from pathlib import Path

import pytest
import yaml

from config.hints import as_list
from pxeboot.bootfiles.grubcfg import kernel_words
from tests.support.marked import assert_said

NODE = "images: {i: {path: /i}}\npools: [{name: p, image: i, nodes: [{name: n, macs: [52:54:00:00:00:01], %s}]}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dhcp: {▸gateway: 10.0.0.1}\n", "^dhcp.gateway is not known; did you mean 'routers'.$"),
        ("dhcp: {▸dns: 10.0.0.1}\n", "^dhcp.dns is not known; did you mean 'domain_name_servers'.$"),
        ("dhcp: {subnets: [{subnet: 10.0.0.0/24, ▸range: x}]}\n", "known; did you mean 'pool'.$"),
        ("▸nodes: []\n", "machine_logs, .*; it stands in pools...nodes, or did you mean 'node'.$"),
        ("images: {i: {path: /i}}\npools: [{name: p, image: i, ▸labels: {}}]\n", "it stands in tags.NAME.labels$"),
        ("dhcp: {▸images: {}}\n", "it stands in the first column, outside of everything$"),
        ("clusters: {c: {▸server: x}}\n", "did you mean 'api_server'.$"),
        ("images: {node: ▸/srv/node}\n", "keys and values; write {path: /srv/node}$"),
        ("node: {files: {motd: ▸geheim}}\n", "^node.files.motd: this value .* write {from: FILE} or {content: TEXT}$"),
        ("node: {files: ▸geheim}\n", "^node.files: this value is not a mapping of names and values$"),
        ("node: {files: {motd: {content: ▸[geheim]}}}\n", "^node.files.motd.content: this value is not a text$"),
        ("dhcp: {routers: ▸'10.0.0.1, 10.0.0.2'}\n", r"is not a list; write \[10.0.0.1, 10.0.0.2\]$"),
        ("tags: {t: {kernel_parameters: ▸'a=1,2 b'}}\n", r'is not a list; write \["a=1,2", b\]$'),
        ("tags: {t: {kernel_parameters: ▸'a x=\"b c\"'}}\n", r'is not a list; write \[a, "x=\\"b c\\""\]$'),
        ("node: {modules: ▸'a b'}\n", r"is not a list; write \[a b\]$"),
        ("dhcp: {lease_s: ▸12h}\n", "neither a whole number nor infinite; it is in seconds: 43200$"),
        ("clusters: {c: {token_ttl_s: ▸15min}}\n", "is not a whole number; it is in seconds: 900$"),
        ("dhcp: {mtu: ▸9k}\n", "'9k' is not a whole number$"),
        (NODE % "ip: ▸10.0.0.5/24", "is not an IPv4 address, such as 10.28.0.1; did you mean '10.0.0.5'.$"),
        (NODE % "ip: ▸10.0.0/24", "is not an IPv4 address, such as 10.28.0.1$"),
        (NODE.replace("name: n,", "name: ▸Node_1.,") % "ip: 10.0.0.5", "at both ends; did you mean 'node-1'.$"),
        (NODE.replace("name: n,", "name: ▸..,") % "ip: 10.0.0.5", "with a letter or digit at both ends$"),
        ("▸interface=eth1\ndhcp-range=10.0.0.100,10.0.0.200\n", "no farm's file; .*`pxeboot import` reads the files$"),
        ("a: b\n c▸: d\n", "not YAML: a second key in one line, or a line farther to the right"),
        ("a:\n  b: c\n ▸d: e\n", "not YAML: this line, or the one before, begins at another column"),
        ("a: ▸@b\n", "not YAML: no word begins with this character; quote a text that does$"),
    ],
)
def test_what_was_meant_is_said(tmp_path: Path, text: str, message: str) -> None:
    assert_said(tmp_path, text, message)


@pytest.mark.parametrize("words", ['console=ttyS0 dyndbg="file a.c +p"', "quiet a=1,2", "", 'x="y', 'a "b c" d'])
def test_the_list_that_is_recommended_holds_the_same_words(words: str) -> None:
    made = yaml.safe_load(as_list("kernel_parameters", words))
    assert [word for one in made for word in kernel_words(one)] == kernel_words(words)
    assert all(len(kernel_words(one)) == 1 for one in made)


def test_a_machine_whose_name_is_wrong_is_called_nothing_else(tmp_path: Path) -> None:
    text = NODE.replace("name: n, macs: [52:54:00:00:00:01]", "name: ▸n_1, macs: [▸00:00:00:00:00:00]")
    assert_said(
        tmp_path, text % "ip: ▸224.0.0.1", "did you mean 'n-1'", "^00:00:00:00:00:00 is the", "^224.0.0.1 is the"
    )
