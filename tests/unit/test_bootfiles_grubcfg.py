import re
import subprocess
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model import Pool
from pxeboot.bootfiles import grubcfg
from pxeboot.bootfiles.machine import Machine
from tests.support.segment import requires

MAC = "52:54:00:00:00:01"
ID = "0" * 64
line = st.text(st.characters(exclude_categories=("Cs", "Cc"), max_codepoint=0x2FF), max_size=20)
nasty = st.text(" '\"\\$`{}();&|<>#!*?[]~=ab\t", max_size=20)


def machine(*parameters: str) -> Machine:
    return Machine(
        name="m1",
        mac=MAC,
        macs=(MAC,),
        ip=IPv4Address("10.0.0.10"),
        pool=Pool(name="workers", image="node"),
        kernel_parameters=parameters,
        lts={},
        labels={},
        taints=(),
        services=(),
    )


def boot(*parameters: str) -> str:
    return grubcfg.boot(machine(*parameters), "http://10.0.0.1:8080", "10.0.0.1:8080", ID)


def grub_words(text: str) -> list[str]:
    """Split a line as GRUB's lexer does (grub-core/script/yylex.l), for what our `quote` may write."""
    out: list[str] = []
    word: str | None = None
    for quoted, escaped, space, plain in re.findall(r"'([^']*)'|\\(.)|([ \t])|([^{}|&$;<> \t\n'\"\\])", text):
        if space:
            if word is not None:
                out.append(word)
            word = None
        else:
            word = (word or "") + (quoted or escaped or plain)
    return out if word is None else [*out, word]


def kernel_line(words: list[str]) -> str:
    """Write arguments as GRUB's `linux` does for the kernel (grub-core/lib/cmdline.c)."""
    return " ".join(f'"{word}"' if " " in word else word for word in words)


def kernel_words(text: str) -> list[str]:
    """Take a command line apart as the kernel does (lib/cmdline.c, next_arg): a quote anywhere turns quoting on."""
    return [word.replace('"', "") for word in re.findall(r'(?:"[^"]*"?|[^\s"])+', text)]


@given(line | nasty)
def test_what_is_quoted_is_one_word_to_grub(word: str) -> None:
    quoted = grubcfg.quote(word)
    assert grub_words(f"a {quoted} b") == ["a", word, "b"]


@given(st.lists(nasty.filter(lambda text: "'" not in text and "\\" not in text), max_size=3))
def test_the_kernel_gets_the_words_that_were_written(parameters: list[str]) -> None:
    configured = boot(*parameters)
    found = re.search(r"^if linux \S+/vmlinuz (.*); then$", configured, re.MULTILINE)
    assert found is not None
    got = kernel_words(kernel_line(grub_words(found[1])))
    assert got[5:] == [w for p in parameters for w in kernel_words(p.replace("\t", " ")) if w]


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("quiet", ["quiet"]),
        ("console=tty0 console=ttyS0,115200n8", ["console=tty0", "console=ttyS0,115200n8"]),
        ('dyndbg="file a.c +p; file b.c +p"', ["dyndbg=file a.c +p; file b.c +p"]),
        ("init=/bin/sh -- $(reboot) `id`", ["init=/bin/sh", "--", "$(reboot)", "`id`"]),
        ("  ", []),
        ('""', []),
        ('a="x\ty"\tb', ["a=x y", "b"]),
        ("", []),
        ('a="b c', ["a=b c"]),
    ],
)
def test_a_parameter_is_words_as_the_kernel_takes_them(parameter: str, words: list[str]) -> None:
    assert grubcfg.kernel_words(parameter) == words


def test_our_words_come_first_so_that_the_farms_can_win() -> None:
    words = grubcfg.command_line(machine("panic=0"), "http://10.0.0.1", ID)
    assert words == [
        "boot=pxeboot",
        "BOOTIF=01-52-54-00-00-00-01",
        "panic=60",
        "pxeboot.server=http://10.0.0.1",
        f"pxeboot.image={ID}",
        "panic=0",
    ]


def test_our_archive_comes_before_the_distributions_initrd() -> None:
    folder = f"$from/images/{ID}"
    assert f"initrd {folder}/01-52-54-00-00-00-01/node.cpio {folder}/initrd.img;" in boot()


@requires("grub-script-check")
@settings(max_examples=25)
@given(st.lists(line | nasty, max_size=3))
def test_grub_can_parse_it_whatever_the_parameters_hold(parameters: list[str]) -> None:
    parse(boot(*parameters))


def test_a_machine_that_boots_once_asks_leave_in_place_of_starting() -> None:
    once = grubcfg.boot(machine(), "http://10.0.0.1:8080", "10.0.0.1:8080", ID, once=True)
    assert once == boot().replace("    boot\n", "    source $from/intent/started\n")
    assert once != boot()


@requires("grub-script-check")
@pytest.mark.parametrize(
    "text",
    [
        grubcfg.boot(machine(), "http://10.0.0.1", "10.0.0.1", ID, once=True),
        grubcfg.local("m1", "10.0.0.1:8080", "the farm's file"),
        grubcfg.refused("m1", "the farm's file"),
        grubcfg.first("10.0.0.1:8080"),
    ],
)
def test_grub_can_parse_what_a_machine_is_told_by_its_intent(text: str) -> None:
    parse(text)


@requires("grub-script-check")
@pytest.mark.parametrize(
    "text",
    [
        grubcfg.nothing(MAC),
        grubcfg.nothing("unknown"),
        grubcfg.no_image(machine()),
        grubcfg.refused("m1", "pxeboot node"),
        grubcfg.local("m1", "10.0.0.1", "pxeboot node"),
    ],
)
def test_grub_can_parse_what_a_machine_is_shown_that_cannot_boot(text: str) -> None:
    parse(text)
    assert text.endswith("sleep 60\nreboot\n")


@requires("grub-script-check")
def test_the_judge_finds_a_broken_script() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        parse("if true; then\n")


def parse(text: str) -> None:
    subprocess.run(["grub-script-check"], input=text, text=True, check=True, capture_output=True)
