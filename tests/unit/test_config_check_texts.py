"""What a farm's file can say that no machine would boot, log in or join with: told with its line and what is allowed.

A table: settings, with a mark before the place that is told, and what is said there.
"""

from pathlib import Path

import pytest

from tests.support.marked import assert_said, said

IMAGE = "images: {i: {path: /i}}\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleE me"


def of_machines(text: str) -> str:
    return f"tags: {{all: {{lts: {{{text}}}}}}}\n"


WRONG = [
    pytest.param("node: {ssh_authorized_keys: [▸/root/.ssh/id_rsa.pub]}\n", "is the path of a file", id="key-path"),
    pytest.param("node:\n  ssh_authorized_keys:\n    - ▸-----BEGIN OPENSSH PRIVATE KEY-----\n      geheim\n",
                 "this is a private key", id="key-private"),
    pytest.param("node:\n  ssh_authorized_keys:\n    - ▸|\n      -----BEGIN OPENSSH PRIVATE KEY-----\n      geheim\n",
                 "this is a private key", id="key-private-block"),
    pytest.param("node:\n  ssh_authorized_keys: ▸-----BEGIN OPENSSH PRIVATE KEY----- geheim\n",
                 "this value is not a list; write .ssh-ed25519 AAAA... you@host.$", id="key-private-alone"),
    pytest.param("node:\n  ssh_authorized_keys: [▸{geheim: x}]\n", "this value is not a text", id="key-mapping"),
    pytest.param(f"node:\n  ssh_authorized_keys:\n    - ▸|\n      {KEY}\n      {KEY}\n",
                 "a key is a single line; write an entry for each", id="key-two"),
    pytest.param("node: {root_password_hash: ▸geheim}\n", "no password's hash, but perhaps the password; write what",
                 id="password"),
    pytest.param("node: {root_password_hash: ▸5f4dcc3b5aa765d61d8327deb882cf99}\n", "no password's hash", id="md5sum"),
    pytest.param(IMAGE + "pools: [{name: p, image: i, kernel_parameters: [▸'a=\"b c']}]\n",
                 "^'a' has a \" without its other", id="quote"),
    pytest.param("tags: {all: {kernel_parameters: [▸'luks.pass=\"geheim', ▸'a \"geheim']}}\n",
                 "^'luks.pass' has a", "^'a' has a", id="quote-of-secret"),
    pytest.param("tags: {all: {kernel_parameters: [▸'\"']}}\n", "^this has a \" without its other", id="quote-of-tag"),
    pytest.param(of_machines("FSTAB_1: ▸tmpfs"), "FSTAB_1: a mount has three words at least, this one 1", id="fstab"),
    pytest.param(of_machines("FSTAB_1: ▸'/dev/sda1 data ext4'"), "'data' is not the path of a", id="fstab-where"),
    pytest.param(of_machines("FSTAB_1: ▸'tmpfs /tmp tmpfs size=1G, mode=0700'"), "options are one word, with commas",
                 id="fstab-options"),
    pytest.param(of_machines("FSTAB_1: ▸'tmpfs /tmp tmpfs size=1G # scratch'"), "two numbers at most", id="fstab-#"),
    pytest.param(of_machines("FSTAB_1: ▸'tmpfs /tmp tmpfs size=1G 0 0 x # y'"), "two numbers at most", id="fstab-7"),
    pytest.param(of_machines("FSTAB_1: ▸'//a/b password=geheim cifs'"), "'password' is not the path", id="fstab-pw"),
    pytest.param(of_machines("HOSTS_1: ▸registry.lan"), "'registry.lan' is no line of /etc/hosts, such", id="hosts"),
    pytest.param(of_machines("HOSTS_1: ▸'registry.lan 10.0.0.5'"), "is no line of /etc/hosts", id="hosts-turned"),
    pytest.param(of_machines("HOSTS_1: ▸'10.0.0.5 a..b'"), "is no line of /etc/hosts", id="hosts-name"),
    pytest.param(of_machines("HOSTS_1: ▸'10.0.0.5 # registry'"), "is no line of /etc/hosts", id="hosts-comment"),
    pytest.param(of_machines("HOSTS_1: ▸'10.0.0.5#a'"), "is no line of /etc/hosts", id="hosts-comment-only"),
    pytest.param("server: {interfaces: [▸'eth 1', eth1, ▸'', ▸enx0123456789abcd]}\n",
                 "'eth 1' cannot be an interface; its name has 1 to 15 characters", "'' cannot be an interface",
                 "'enx0123456789abcd' cannot be an interface", id="interfaces"),
    pytest.param(f"server: {{control: ▸/run/{'x' * 110}}}\n", "a unix socket has 107 bytes at most; this one has 115",
                 id="socket"),
    pytest.param("images: {▸'': {path: /i}}\n", "'' cannot be the name of an image", id="image-name"),
    pytest.param(IMAGE + "pools: [{name: ▸' ', image: i}]\n", "' ' cannot be the name of a pool", id="pool-name"),
    pytest.param("web: {names: [▸'http://boot.lan', ▸'boot.lan:80', boot.lan, '*']}\n",
                 "'http://boot.lan' is not a host name; write it without http:// and port", "'boot.lan:80' is not",
                 id="page-names"),
    pytest.param("web: {listen: [▸'999.0.0.1:80']}\n", "'999.0.0.1:80' is no address with a port; write it as",
                 id="page-address"),
    pytest.param("web: {listen: [▸'0.0.0.0:80']}\n", "web.listen.0. is 80, as is server.http_port", id="page-port"),
    pytest.param("web: {listen: ['10.0.0.1:81', '10.0.0.2:81', ▸'10.0.0.1:81', '[::]:80']}\n",
                 "web.listen.2.: the page is already at 10.0.0.1:81; remove this one$", id="page-twice"),
    pytest.param("machine_logs: {syslog_port: ▸69}\n", "syslog_port is 69, as is the port of tftp", id="udp"),
    pytest.param("machine_logs: {syslog_port: 514, netconsole_port: ▸514}\n",
                 "netconsole_port is 514, as is machine_logs.syslog_port", id="udp-both"),
    pytest.param("tags: {t: {taints: [{key: a, effect: NoExecute}, ▸{key: a, value: b, effect: NoExecute}]}}\n",
                 "there is already a taint a with the effect NoExecute .line 1", id="taints"),
    pytest.param("tags: {t: {taints: [▸gpu=true:NoSchedule]}}\n",
                 "not a mapping of keys and values; write {key: gpu, value: 'true', effect: NoSch", id="kubectls"),
    pytest.param("dhcp: {boot_file: ▸'http:/10.0.0.1/boot.efi'}\n", "is not a URL, such as http://", id="url"),
    pytest.param("dhcp: {boot_file: ▸'http://'}\n", "is not a URL, such as http://", id="url-of-nobody"),
    pytest.param("dhcp: {boot_file: ▸'http//10.0.0.1/boot.efi'}\n", "is not a URL, such as http://", id="url-colon"),
    pytest.param("▸lts_conf: ''\n", "lts_conf: this path is empty; remove the line", id="path-empty"),
    pytest.param("http: {tls: {certificate: /c, key: ▸'-----BEGIN PRIVATE KEY----- geheim'}}\n",
                 "http.tls.key: this is no path; write that of a file in which it is", id="path-private"),
    pytest.param("clusters: {c: {command: 'x {token}', token_file: ▸abcdef.0123456789abcdef}}\n",
                 "token_file: this is no path; write that of a file in which it is", id="path-token"),
    pytest.param("images: {i: {path: ▸'https://example.org/root.squashfs'}}\n", "this is a URL; fetch it, and `px",
                 id="path-url"),
    pytest.param("clusters: {c: {kubeconfig: ▸'https://user:geheim@h/x'}}\n", "kubeconfig: this is a URL; write the",
                 id="path-url-with-password"),
    pytest.param("images: {i: {path: ▸'https://user:geheim@h/x'}}\n", "path: this is a URL; fetch it",
                 id="image-url-with-password"),
    pytest.param("clusters: {c: {kubeconfig: ▸'https://10.0.0.1:6443'}}\n", "is a URL; write the path of a file on",
                 id="path-url-of-api"),
    pytest.param("dhcp: {subnets: [{subnet: 10.0.0.0/24, pool: ▸10.0.0.100-200}]}\n",
                 "'10.0.0.100-200' is not a range; write it as 10.0.0.100-10.0.0.200", id="range"),
]  # fmt: skip


@pytest.mark.parametrize("case", [pytest.param(each.values, id=each.id) for each in WRONG])
def test_what_would_not_work_is_told_at_its_place(tmp_path: Path, case: tuple[str, ...]) -> None:
    text, *messages = case
    assert_said(tmp_path, text, *messages)
    told = "\n".join(said(tmp_path, text.replace("▸", "")))
    assert "geheim" not in told
    assert "abcdef.0123" not in told


@pytest.mark.parametrize(
    "text",
    [
        f"node: {{ssh_authorized_keys: ['{KEY}']}}\n",
        f"node:\n  ssh_authorized_keys:\n    - |\n      {KEY}\n",
        *(f"node: {{root_password_hash: '{one}'}}\n" for one in ("$6$salt$x", "$y$j9T$a$b", "$2b$10$x", "!", "*")),
        'tags: {all: {kernel_parameters: [\'dyndbg="file a.c +p"\', quiet, "a=\'b"]}}\n',
        of_machines("FSTAB_1: NONE, FSTAB_2: '', FSTAB_3: '/swap none swap sw 0 0', HOSTS_1: '::1 a.b # c', FSTAB: x"),
        of_machines("HOSTS_1: '10.0.0.1 a #c d', HOSTS_2: '# none yet', HOSTS_3: '10.0.0.1 a b#c', HOSTS_4: '#'"),
        of_machines("FSTAB_1: 'tmpfs /a tmpfs size=1G 0 0 # scratch', FSTAB_2: '# x', FSTAB_3: 'a /b c d 0 0 #'"),
        "node: {ssh_authorized_keys: ['', '# alice']}\n",
        "clusters: {c: {kubeconfig: /etc/PRIVATE KEY/c.conf}}\n",
        "server: {interfaces: [eth1, eth1, 'en*', 'a-very-long-pattern-*', eth1.100, br-lan]}\n",
        "web: {listen: ['127.0.0.1:8067', '[::1]:8067', '10.0.0.1:8067'], names: ['*', boot.example.org, b_2.lan]}\n",
        "dhcp: {architectures: {bios: {boot_file: http/boot.efi}, uefi-x64-http: {boot_file: 'http://a/b'}}}\n",
        "machine_logs: {syslog_port: 67}\n",
    ],
)  # fmt: skip
def test_what_works_is_right(tmp_path: Path, text: str) -> None:
    assert said(tmp_path, text) == []
