import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import sshkeys

GOOD = "AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleE"


def key(*parts: bytes) -> str:
    return base64.b64encode(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).decode()


@pytest.mark.parametrize(
    "line",
    [
        f"ssh-ed25519 {GOOD}",
        f"ssh-ed25519 {GOOD} me@host and more",
        f"ssh-ed25519 {GOOD} of the PRIVATE KEY in the safe",
        "",
        " \n",
        "# anna",
        f'from="10.0.0.0/8",command="echo \\"a b\\"" ssh-ed25519 {GOOD} me',
        f"ssh-rsa {key(b'ssh-rsa', b'e', b'n' * 257)}",
        f"ecdsa-sha2-nistp256 {key(b'ecdsa-sha2-nistp256', b'nistp256', b'p' * 65)}",
        f"sk-ssh-ed25519@openssh.com {key(b'sk-ssh-ed25519@openssh.com', b'k' * 32, b'ssh:')}",
        f"ssh-ed448-of-some-day {key(b'ssh-ed448-of-some-day', b'k' * 57)}",
    ],
)
def test_a_public_key_is_right(line: str) -> None:
    assert sshkeys.problem(line) is None


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/root/.ssh/id_ed25519.pub", "this is the path of a file; write the line that is in"),
        ("id_rsa.pub", "this is the path of a file"),
        ("~/.ssh/id_rsa", "is the path of a file"),
        ("anna", "this is no public key of SSH; write the line of the file that ends in .pub"),
        (f"ssh-ed2519 {GOOD} me", "what stands in front of this key is not its kind, which is 'ssh-ed25519'; copy it"),
        (f"ssh-ed25519 {GOOD[:40]} me", "this key is damaged or cut off; copy it again"),
        (f"ssh-ed25519 {GOOD[:39]} me", "this key is damaged or cut off; copy it again"),
        (f"ssh-ed25519 {GOOD}AAAA me", "this key is damaged or cut off; copy it again"),
        (f"ssh-ed25519 {key(b'ssh-ed25519', b'x' * 31)}", "this key is damaged or cut off; copy it again"),
        ("ssh-ed25519 AAAA\u00a1 me", "this key is damaged or cut off; copy it again"),
        (f"{GOOD} me", "the kind of this key is missing in front of it"),
        ("ssh-ed25519 SHA256:abcd", "what follows ssh-ed25519 is no key"),
        ("ssh-rsa", "what follows ssh-rsa is no key"),
    ],
)
def test_what_is_no_public_key_is_told(line: str, says: str) -> None:
    assert says in str(sshkeys.problem(line))


@pytest.mark.parametrize(
    "line",
    [
        "-----BEGIN OPENSSH PRIVATE KEY----- geheim",
        "-----BEGIN RSA PRIVATE KEY-----\ngeheim\n",
        "-----BEGIN ENCRYPTED PRIVATE KEY----- geheim",
        "PuTTY-User-Key-File-3: ssh-ed25519 geheim",
        "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAgeheim",
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ---- geheim",
        "PRIVATE KEY----- geheim",
        "# -----BEGIN EC PRIVATE KEY----- geheim",
        f"ssh-ed25519 {GOOD} -----BEGIN PRIVATE KEY----- geheim",
        f"ssh-ed25519 {GOOD} b3BlbnNzaC1rZXktdjEAAAAABgeheim",
    ],
)
def test_a_private_key_is_refused_and_not_repeated(line: str) -> None:
    said = str(sshkeys.problem(line))
    assert said.startswith(
        "this is a private key, which nobody but its owner may see; write the line of the file that"
    )
    assert "geheim" not in said


@pytest.mark.parametrize("line", ["/geheim", f"geheim {GOOD}", "ssh-rsa geheim", "geheim.pub", f"{GOOD[:40]} geheim"])
def test_what_may_be_a_part_of_a_private_key_is_not_repeated(line: str) -> None:
    assert "geheim" not in str(sshkeys.problem(line))


@given(st.text(max_size=200), st.sampled_from(["", "ssh-ed25519 ", "ssh-ed25519 AAAA", "a ssh-rsa AAAAB"]))
def test_any_line_is_judged(text: str, before: str) -> None:
    sshkeys.problem(before + text)
