"""Settings of clusters: what is right, and every mistake with its place and what is allowed."""

from pathlib import Path

import pytest

from config.clusters import Cluster
from config.load import ConfigErrors, load

FARM = """\
images: {{node: {{path: /srv/images/node}}}}
clusters:
  prod: {}
pools: [{{name: workers, image: node, cluster: prod}}]
"""
BEFORE = "  prod: "


def said(tmp_path: Path, cluster: str) -> list[str]:
    """What is wrong with a farm of one cluster, without the file's name."""
    path = tmp_path / "farm.yaml"
    path.write_text(FARM.format(cluster))
    try:
        load(path)
    except ConfigErrors as errors:
        return [line.removeprefix(f"{path}:") for line in str(errors).splitlines()]
    return []


IN_CLUSTER = "clusters.prod: it has "
BRACES = "a `command` with braces that are none of {token}, {name}, {ip}, {labels}, {taints}; write {{ for {"
OF_KUBERNETES = (
    "is not a name of Kubernetes; write small letters, digits, hyphens and dots, with a letter or digit at both ends"
)
WRONG = [  # the cluster, the text that is wrong (None: all of it), what is said
    ("{tokens: bot}", "bot", "tokens: 'bot' is not allowed; write boot or shared; did you mean 'boot'?"),
    ("{tokens: yes}", "yes", "tokens: 'yes' is not allowed; write boot or shared"),
    ("{tokens: shared}", None, "`tokens: shared` and no `lts_conf` to write the join command to"),
    ("{push: {name: a}}", None, "`push` and no `lts_conf`; give the file that `push` is copied to for the daemon"),
    ("{lts_conf: x, push: {}}", "{}}", "push.name is missing"),
    ("{lts_conf: x, push: {name: A b}}", "A b", f"push.name: 'A b' {OF_KUBERNETES}"),
    ("{lts_conf: x, push: {name: a, namespace: _}}", "_}", f"push.namespace: '_' {OF_KUBERNETES}"),
    ("{lts_conf: x, push: {name: a, kind: Pod}}", "Pod", "push.kind: 'Pod' is not allowed; write ConfigMap or Secret"),
    (
        "{lts_conf: x, push: {name: a, key: a/b}}", "a/b",
        "push.key: 'a/b' is not a key of such an object; write letters, digits, hyphens, underscores and dots",
    ),
    (
        "{lts_conf: x, push: {name: a}, tokens: boot}", None,
        "`push`, for a shared token, and `tokens: boot`; give one of them",
    ),
    ("{namespace: a b}", "a b", f"namespace: 'a b' {OF_KUBERNETES}"),
    ("{section: ''}", "section", "section: '' is not the name of a section of an lts.conf, such as Default"),
    ("{section: 'a]'}", "'a]'", "section: 'a]' is not the name of a section of an lts.conf, such as Default"),
    ("{join_key: JOIN}", "JOIN}", "join_key: 'JOIN' is not such a key; write RCFILE_ and capitals, digits or "
     "underscores"),
    ("{token_ttl_s: 60}", "60", "token_ttl_s: 60 is too little; the least allowed is 120"),
    ("{token_ttl_s: 86401}", "86401", "token_ttl_s: 86401 is too much; the most allowed is 86400"),
    ("{token_ttl_s: soon}", "soon", "token_ttl_s: 'soon' is not a whole number"),
    ("{boot_token_ttl_s: 59}", "59", "boot_token_ttl_s: 59 is too little; the least allowed is 60"),
    ("{boot_token_ttl_s: 3601}", "3601", "boot_token_ttl_s: 3601 is too much; the most allowed is 3600"),
    ("{api_server: api}", "api}", "api_server: 'api' is not HOST:PORT, such as 10.28.0.10:6443"),
    (
        "{api_server: 'https://api:6443'}", "'https",
        "api_server: 'https://api:6443' is not HOST:PORT, such as 10.28.0.10:6443",
    ),
    *(
        (f"{{api_server: 'api:{port}'}}", "'api",
         f"api_server: 'api:{port}' has no port from 1 to 65535, such as 10.28.0.10:6443")
        for port in (0, 65536, 99999)
    ),
    ("{api_address: api}", "api}", "api_address: 'api' is not an IPv4 address, such as 10.28.0.1"),
    ("{token_file: x}", None, "`token_file` and no `command` that needs it"),
    ("{command: ''}", None, "an empty `command`; leave it out, and machines join with kubeadm"),
    ("{command: [a]}", "[a]", "command: a list is not a text"),
    ("{command: 'k3s {token}'}", None, "a `command` with {token}, and no `token_file` to take it from"),
    ("{command: k3s, token_file: x}", None, "a `token_file`, and no {token} in its `command`"),
    *(
        (f"{{command: 'k3s {braces}'}}", None, BRACES)
        for braces in ("{tokn}", "{", "}", "{}", "{0}", "{name.x}", "{name[0]}", "{name!r}", "{name:>9}", "{token:x}")
    ),
    *(
        (f"{{command: k3s, {setting}}}", None,
         f"a `command` of its own, and `{setting.split(':')[0]}`, which is for the controller; give one")
        for setting in (
            "kubeconfig: x", "tokens: boot", "push: {name: a}, lts_conf: x", "token_ttl_s: 900",
            "boot_token_ttl_s: 600", "api_server: 'a:6443'", "api_address: 10.0.0.1", "section: Default",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("cluster", "at", "message"), WRONG, ids=[row[0] for row in WRONG])
def test_a_mistake_is_said_with_its_place(tmp_path: Path, cluster: str, at: str | None, message: str) -> None:
    where = f"3:{len(BEFORE) + 1 + (cluster.index(at) if at else 0)}: "
    found = said(tmp_path, cluster)
    assert found == [f"{where}clusters.prod.{message}" if at else f"{where}{IN_CLUSTER}{message}"]


def test_a_setting_that_is_not_there_is_said_with_those_that_are(tmp_path: Path) -> None:
    assert said(tmp_path, "{kubeconfi: x}") == [
        "3:10: clusters.prod.kubeconfi is not known; here are allowed: kubeconfig, tokens, lts_conf, push, namespace, "
        "section, join_key, token_ttl_s, boot_token_ttl_s, api_server, api_address, command, token_file; "
        "did you mean 'kubeconfig'?"
    ]


def test_no_word_of_a_command_is_repeated(tmp_path: Path) -> None:
    """It may hold a secret."""
    for wrong in ("{tokn}", "{token}", "{"):
        (line,) = said(tmp_path, f"{{command: 'k3s agent --token geheim {wrong}'}}")
        assert "geheim" not in line


@pytest.mark.parametrize(
    "cluster",
    [
        "{}",
        "{kubeconfig: prod.kubeconfig, api_server: 'api.example:6443', api_address: 10.28.0.10}",
        "{lts_conf: prod.conf}",
        "{lts_conf: prod.conf, tokens: boot}",
        "{lts_conf: prod.conf, push: {name: lts}}",
        "{command: /usr/bin/k3s agent --server https://k3s:6443}",
        "{command: 'k3s {token} {name} {ip} {labels} {taints} ${{HOME}}', token_file: k3s.token}",
        "{command: talos, lts_conf: prod.conf, join_key: RCFILE_01_JOIN}",
    ],
)
def test_what_is_right_is_taken(tmp_path: Path, cluster: str) -> None:
    assert said(tmp_path, cluster) == []


@pytest.mark.parametrize(
    ("settings", "per_boot", "minted"),
    [
        ({}, True, "boot"),
        ({"tokens": "boot", "lts_conf": "x"}, True, "boot"),
        ({"lts_conf": "x"}, False, "shared"),
        ({"lts_conf": "x", "push": {"name": "lts"}}, False, "shared"),
        ({"command": "k3s agent"}, True, None),
        ({"command": "k3s agent", "lts_conf": "x"}, True, None),
    ],
)
def test_which_kind_of_token_is_made_follows_from_what_is_given(
    settings: dict[str, object], per_boot: bool, minted: str | None
) -> None:
    cluster = Cluster.model_validate(settings)
    assert (cluster.per_boot, cluster.minted) == (per_boot, minted)
