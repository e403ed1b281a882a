"""The join command: what it looks like, and that nothing in it means anything to a shell."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pxeboot.controller.join import Discovery, JoinCommand, NotAJoinCommand, host_and_port
from pxeboot.controller.token import Token

TOKEN = Token("abcdef", "0123456789abcdef")
ONE, OTHER = f"sha256:{'0a' * 32}", f"sha256:{'b1' * 32}"


def test_the_command_is_the_one_that_kubeadm_documents() -> None:
    assert JoinCommand(TOKEN, Discovery("10.0.0.1:6443", (ONE, OTHER))).reveal() == (
        "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef"
        f" --discovery-token-ca-cert-hash {ONE} --discovery-token-ca-cert-hash {OTHER}"
    )


@pytest.mark.parametrize("server", ["10.0.0.1:6443", "[fd00::1]:6443", "api.example.org:443", "kube:1"])
def test_a_command_is_read_as_it_was_written(server: str) -> None:
    command = JoinCommand(TOKEN, Discovery(server, (ONE,)))
    assert JoinCommand.parse(command.reveal()) == command
    assert "0123456789abcdef" not in repr(command)


@given(st.text())
def test_no_server_can_break_out_of_its_word(server: str) -> None:
    try:
        command = JoinCommand(TOKEN, Discovery(server, (ONE,)))
    except NotAJoinCommand:
        return
    assert shlex.split(command.reveal())[2] == server
    assert not set(server) & set(" \t\n'\"`$();&|<>\\*?~#!")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kubeadm",
        "kubeadm join",
        "kubeadm init 10.0.0.1:6443 --token abcdef.0123456789abcdef",
        "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef",
        f"kubeadm join 10.0.0.1:6443 --discovery-token-ca-cert-hash {ONE}",
        f"kubeadm join 10.0.0.1:6443 --token a.b --discovery-token-ca-cert-hash {ONE}",
        f"kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash {ONE} --v 5",
        "kubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-unsafe-skip-ca-verification",
        "kubeadm join 10.0.0.1 --token 'abcdef.0123456789abcdef",
    ],
)
def test_what_is_no_command_of_ours_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(NotAJoinCommand) as refused:
        JoinCommand.parse(text)
    assert "0123456789abcdef" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://10.0.0.1:6443", "10.0.0.1:6443"),
        ("https://10.0.0.1", "10.0.0.1:443"),
        ("https://[fd00::1]:6443/", "[fd00::1]:6443"),
        ("https://api.example.org:6443/", "api.example.org:6443"),
    ],
)
def test_a_servers_url_gives_host_and_port(url: str, server: str) -> None:
    assert host_and_port(url) == server


@pytest.mark.parametrize(
    "url", ["", "http://10.0.0.1", "https://h/k8s/clusters/c-1", "https://a b", "https://h:99999", "https://[x"]
)
def test_an_address_that_kubeadm_cannot_use_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011, some messages are the standard library's
        host_and_port(url)
