import shlex
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.ltsconf import LtsConf, LtsConfError, numbered, quote

SEED = """\
# The farm's machines. Kept in Git.
[Default]
KEEP_SYSTEM_SERVICES = "ssh kubelet docker"   # the rest is not needed
PREINIT_00_TIME="hwclock -s; echo 'it is' \\$(date)"
FSTAB_03_DOCKER = "tmpfs /var/lib/docker tmpfs x-systemd.wanted-by=docker.service,size=60% 0 0"
RCFILE_07_JOIN_K8S="kubeadm join 10.28.0.1:6443 --token abcdef.0123456789abcdef"
include /etc/lts.local

[gpu]
    MODULE_01 = nvidia
    HOSTS_1 = 10.0.0.1 a#b   # this is a comment

[m1c*]
LIKE = gpu
FSTAB_03_DOCKER = NONE

[52:54:00:12:34:56]
HOSTNAME = by-mac
[10.77.0.20]
HOSTNAME = by-ip
[M1C29]
HOSTNAME = by-name
this line says nothing
"""


def resolve(text: str, hostname: str = "other", ip: str = "10.77.0.99", *macs: str) -> dict[str, str]:
    return LtsConf.parse(text).resolve(hostname=hostname, ip=IPv4Address(ip), macs=macs)


def test_the_farms_file_is_read() -> None:
    values = resolve(SEED)
    assert values == {
        "KEEP_SYSTEM_SERVICES": "ssh kubelet docker",
        "PREINIT_00_TIME": "hwclock -s; echo 'it is' \\$(date)",
        "FSTAB_03_DOCKER": "tmpfs /var/lib/docker tmpfs x-systemd.wanted-by=docker.service,size=60% 0 0",
        "RCFILE_07_JOIN_K8S": "kubeadm join 10.28.0.1:6443 --token abcdef.0123456789abcdef",
    }


def test_a_new_join_command_changes_one_line_only() -> None:
    changed = LtsConf.parse(SEED).with_value("Default", "RCFILE_07_JOIN_K8S", "kubeadm join new")
    before, after = SEED.split("\n"), changed.text.split("\n")
    assert [line for line in after if line not in before] == ['RCFILE_07_JOIN_K8S="kubeadm join new"']
    assert len(before) == len(after)


def test_like_and_none_and_patterns() -> None:
    values = resolve(SEED, "m1c7")
    assert "FSTAB_03_DOCKER" not in values
    assert "LIKE" not in values
    assert values["MODULE_01"] == "nvidia"
    assert values["HOSTS_1"] == "10.0.0.1 a#b"


IDENTITIES = [
    pytest.param("m1c29", "10.77.0.20", "52:54:00:12:34:56", "by-name", id="host-name-first"),
    pytest.param("other", "10.77.0.20", "52:54:00:12:34:56", "by-ip", id="then-address"),
    pytest.param("other", "10.77.0.21", "52:54:00:12:34:56", "by-mac", id="then-mac"),
    pytest.param("other", "10.77.0.21", "52:54:00:12:34:57", None, id="else-nothing"),
]


@pytest.mark.parametrize(("hostname", "ip", "mac", "expected"), IDENTITIES)
def test_a_more_specific_identity_wins(hostname: str, ip: str, mac: str, expected: str | None) -> None:
    assert resolve(SEED, hostname, ip, "00:00:00:00:00:01", mac).get("HOSTNAME") == expected


LAYERS = [
    pytest.param("K=1", {"K": "1"}, id="above-the-first-header-is-default"),
    pytest.param("[DEFAULT]\nK=1\n[default]\nK=2", {"K": "2"}, id="one-section-in-two-places-last-value"),
    pytest.param("[h1]\nK=exact\n[h*]\nK=glob\n[Default]\nK=d", {"K": "exact"}, id="exact-over-glob"),
    pytest.param("[h*]\nK=glob\n[Default]\nK=d", {"K": "glob"}, id="glob-over-default"),
    pytest.param("[h1*]\nK=longer\n[h*]\nK=short", {"K": "longer"}, id="more-letters-over-fewer"),
    pytest.param("[h?]\nK=first\n[h*]\nK=second", {"K": "second"}, id="the-later-of-two-alike"),
    pytest.param("[10.0.0.*]\nK=ip\n[52:*]\nK=mac\n[*]\nA=1", {"K": "ip", "A": "1"}, id="ip-glob-over-mac-glob"),
    pytest.param("[h*]\nK=host\n[10.0.0.?]\nK=ip", {"K": "host"}, id="host-glob-over-ip-glob"),
    pytest.param("[52-54-00-AB-CD-EF]\nK=1", {"K": "1"}, id="mac-with-dashes"),
    pytest.param("[52-54-*]\nK=1", {"K": "1"}, id="mac-pattern-with-dashes"),
    pytest.param("[a]\nK=a\nL=a\nM=a\n[h1]\nLIKE=A\nK=h\nL=NONE", {"K": "h", "M": "a"}, id="own-over-like"),
    pytest.param("[h1]\nLIKE=a\n[a]\nLIKE=b\nK=a\n[b]\nLIKE=h1\nL=b", {"K": "a", "L": "b"}, id="a-circle-ends"),
    pytest.param("[h1]\nLIKE=h1\nK=1", {"K": "1"}, id="like-itself"),
    pytest.param("[h1]\nLIKE=nobody\nK=1\n[none]\nL=1", {"K": "1"}, id="like-nobody"),
    pytest.param("[none]\nL=1\n[h1]\nK=1", {"K": "1"}, id="no-like-is-not-a-section-none"),
    pytest.param("[a]\nLIKE=NONE\n[h1]\nLIKE=a\nK=1", {"K": "1"}, id="like-none"),
    pytest.param("K=1\n[h1]\nK=NONE", {}, id="none-unsets"),
    pytest.param("K=NONE\n[h1]\nL=NONE", {}, id="none-of-what-is-not-set"),
    pytest.param("[other]\nK=1\n[x?]\nK=2", {}, id="other-machines"),
]


@pytest.mark.parametrize(("text", "expected"), LAYERS)
def test_sections_are_laid_over_each_other(text: str, expected: dict[str, str]) -> None:
    assert resolve(text, "H1", "10.0.0.5", "52:54:00:ab:cd:ef") == expected


VALUES = [
    pytest.param("K = a b ", "a b", id="plain"),
    pytest.param("K=", "", id="empty"),
    pytest.param("K = # c", "", id="only-a-comment"),
    pytest.param("K=#c", "", id="a-comment-at-once"),
    pytest.param("K=a # c", "a", id="comment"),
    pytest.param("K=a# c", "a# c", id="a-hash-inside"),
    pytest.param("K=a \t", "a", id="tab"),
    pytest.param("  K\t= 'a # b'# c", "a # b", id="single-quotes"),
    pytest.param('K="a\\" # c', "a\\", id="no-escapes"),
    pytest.param("K='it'\"'\"'s'", "it's", id="strings-side-by-side"),
    pytest.param("K=say \"x\" 'y'", "say \"x\" 'y'", id="quotes-inside-plain"),
    pytest.param('K="a"\r', "a", id="carriage-return"),
    pytest.param("k_1=a", None, id="another-key"),
    pytest.param("K a", None, id="no-equals"),
    pytest.param("K-1=a", None, id="not-a-key"),
    pytest.param("# K=a", None, id="commented-out"),
    pytest.param("include K=a", None, id="include"),
]


@pytest.mark.parametrize(("line", "value"), VALUES)
def test_a_value_ends_where_the_grammar_says(line: str, value: str | None) -> None:
    conf = LtsConf.parse(f"[x] # y\r\n{line}\n")
    assert conf.get("X", "K") == value
    if value is not None:
        changed = conf.with_value("x", "K", "new")
        assert changed.get("x", "K") == "new"
        assert changed.text.startswith("[x] # y\r\n")
        assert ("# c" in line and value != "a# c") == changed.text.rstrip().endswith("# c")


BROKEN = [
    pytest.param('[a]\nK="secret', 2, "quote without its end", id="double"),
    pytest.param("[a]\nK='a' 'secret", 2, "text after", id="second-string-apart"),
    pytest.param("[a]\nK='a'\"secret", 2, "quote without its end", id="second-string"),
    pytest.param("[a]\n\nK='a'secret", 3, "text after its closing quote", id="text-after"),
    pytest.param("[a", 1, r"not \[name\]", id="no-bracket"),
    pytest.param("[a] secret", 1, r"not \[name\]", id="text-after-header"),
    pytest.param("[a[12]]", 1, "no brackets", id="bracket-pattern"),
    pytest.param("[ ]", 1, "no name", id="no-name"),
]


@pytest.mark.parametrize(("text", "line", "message"), BROKEN)
def test_what_is_broken_is_named_without_its_text(text: str, line: int, message: str) -> None:
    with pytest.raises(LtsConfError, match=message) as caught:
        LtsConf.parse(text)
    assert caught.value.line == line
    assert "secret" not in str(caught.value)


def test_the_repr_shows_no_value() -> None:
    assert "abcdef" not in repr(LtsConf.parse(SEED))
    assert "m1c*" in repr(LtsConf.parse(SEED))


ADDED = [
    pytest.param("", '[Default]\nK="v"\n', id="empty-file"),
    pytest.param("# c\n", '# c\n\n[Default]\nK="v"\n', id="only-a-comment"),
    pytest.param("A=1\n\n[x]\nB=1\n", 'A=1\nK="v"\n\n[x]\nB=1\n', id="default-without-header"),
    pytest.param("[x]\nB=1", '[x]\nB=1\n\n[Default]\nK="v"', id="no-last-newline"),
    pytest.param("[default]\nB=1", '[default]\nB=1\nK="v"', id="no-last-newline-in-section"),
    pytest.param("[Default]\n# c\n[x]\n", '[Default]\nK="v"\n# c\n[x]\n', id="a-header-without-keys"),
    pytest.param("[Default]\r\n\tA = 1\r\n# c\r\n", '[Default]\r\n\tA = 1\r\n\tK = "v"\r\n# c\r\n', id="its-manner"),
    pytest.param(
        "[Default]\nA=1\n[x]\n[default]\nB=1\n[y]", '[Default]\nA=1\n[x]\n[default]\nB=1\nK="v"\n[y]', id="twice"
    ),
    pytest.param("K=1\nK=2 # c\nL=3", 'K=1\nK="v" # c\nL=3', id="the-assignment-that-counts"),
]


@pytest.mark.parametrize(("before", "after"), ADDED)
def test_a_key_is_added_where_it_belongs(before: str, after: str) -> None:
    assert LtsConf.parse(before).with_value("Default", "K", "v").text == after


REFUSED = [
    pytest.param("Default", "K", "a\nb", "single line", id="newline"),
    pytest.param("Default", "K", "a\rb", "single line", id="carriage-return"),
    pytest.param("Default", "K", "a\0b", "single line", id="nul"),
    pytest.param("Default", "k", "a", "not a key", id="small-letters"),
    pytest.param("Default", "1K", "a", "not a key", id="number-first"),
    pytest.param("Default", "K=x", "a", "not a key", id="injection"),
    pytest.param("Default", "K\n", "a", "not a key", id="newline-in-key"),
    pytest.param("a]\nX=1\n[b", "K", "a", "name", id="newline-in-section"),
    pytest.param("", "K", "a", "name", id="no-section"),
    pytest.param(" a", "K", "a", "name", id="space"),
]


@pytest.mark.parametrize(("section", "key", "value", "message"), REFUSED)
def test_what_cannot_be_written_is_refused(section: str, key: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LtsConf.parse("").with_value(section, key, value)


def test_without_removes_every_assignment_of_that_section() -> None:
    text = "K=1\n[x]\nK=2\n[default]\nK=3\n# K=4\n"
    conf = LtsConf.parse(text).without("Default", "K")
    assert conf.text == "[x]\nK=2\n[default]\n# K=4\n"
    assert conf.get("Default", "K") is None
    assert LtsConf.parse(text).without("nobody", "K").text == text


def test_numbered_keys_come_in_the_order_of_their_numbers() -> None:
    keys = ["RCFILE_10", "RCFILE_2", "RCFILE_B", "RCFILE_07_JOIN", "RCFILE_7", "RCFILE_07_A", "RCFILES", "FSTAB_1"]
    found = [key for key, _ in numbered(dict.fromkeys(keys, ""), "RCFILE_")]
    assert found == ["RCFILE_2", "RCFILE_7", "RCFILE_07_A", "RCFILE_07_JOIN", "RCFILE_10", "RCFILE_B"]


one_line = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=40)
words = st.text("\"'`$()#\\! ab=[]", max_size=12) | one_line
lines = st.one_of(
    one_line.filter(lambda line: not line.lstrip(" \t").startswith("[")).map(lambda line: f"# {line}"),
    st.builds(lambda k, v: f"{k}={quote(v)}", st.sampled_from(["K", "L_1", "RCFILE_07_X"]), words),
    st.builds(lambda k, v: f" {k} = {v} # c", st.sampled_from(["K", "M"]), st.sampled_from(["", "a b", "'x'", "N#"])),
    st.sampled_from(["[Default]", " [h1] # c", "[H1]", "[h*]", "", "odd", "include x", "LIKE = h*"]),
)
files = st.builds(
    lambda parts, end, last: end.join(parts) + (end if last else ""),
    st.lists(lines, max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)


@given(text=files | st.text(max_size=60))
def test_a_file_comes_back_byte_for_byte_or_is_refused(text: str) -> None:
    try:
        conf = LtsConf.parse(text)
    except LtsConfError:
        return
    assert conf.text == text
    resolved = conf.resolve(hostname="h1", ip=IPv4Address("10.0.0.1"), macs=["52:54:00:00:00:01"])
    assert "NONE" not in resolved.values()


@given(text=files, section=st.sampled_from(["Default", "h1", "new"]), key=st.sampled_from(["K", "Z"]), value=words)
def test_a_value_that_is_set_is_what_one_gets(text: str, section: str, key: str, value: str) -> None:
    before = LtsConf.parse(text)
    after = before.with_value(section, key, value)
    assert after.get(section, key) == value
    assert LtsConf.parse(after.text) == after
    old, new = text.split("\n"), after.text.split("\n")
    if before.get(section, key) is not None:
        assert len(old) == len(new)
        assert sum(a != b for a, b in zip(old, new, strict=True)) <= 1
    else:
        rest = iter([line.rstrip("\r") for line in new])
        assert all(line.rstrip("\r") in rest for line in old if line)
        assert len(new) - len(old) <= 3
    assert after.without(section, key).get(section, key) is None


@given(value=words)
def test_what_we_write_means_the_same_to_a_shell(value: str) -> None:
    assert shlex.split(quote(value)) == [value]
