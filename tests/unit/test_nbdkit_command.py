from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.exports import Nbdkit, NbdTls
from config.model import Farm, Image
from pxeboot.nbdkit import command
from pxeboot.nbdkit.backoff import LEAST_S, MOST_S, STEADY_S, Backoff
from pxeboot.nbdkit.engine import Engine, absent, warning

PLUGIN, DOOR, LINKS = Path("/lib/plugin.py"), Path("/run/door"), Path("/state/nbdkit")
TLS = NbdTls(certificate=Path("/c.pem"), key=Path("/k.pem"))


def start(settings: Nbdkit, tls: NbdTls | None = None) -> list[str]:
    argv = command.start(settings, PLUGIN, DOOR, tls, LINKS)
    assert argv[:4] == ["/bin/sh", "-c", command.ADOPT, "nbdkit"]
    return argv[4:]


def test_nbdkit_is_started_to_serve_without_writing_and_to_end_with_us() -> None:
    assert start(Nbdkit()) == [
        *("nbdkit", "--foreground", "--readonly", "--exit-with-parent", "--threads=4"),
        *("python", "/lib/plugin.py", "socket=/run/door"),
    ]


def test_filters_come_in_their_order_and_parameters_last() -> None:
    argv = start(Nbdkit(filters=("readahead", "cache"), parameters={"cache-max-size": "1G", "offset": "a b; $c"}))
    assert argv[5:] == [
        *("--filter=readahead", "--filter=cache", "python", "/lib/plugin.py"),
        *("socket=/run/door", "cache-max-size=1G", "offset=a b; $c"),
    ]


@pytest.mark.parametrize(
    ("tls", "options"),
    [
        (TLS, ["--tls=require", "--tls-certificates=/state/nbdkit"]),
        (TLS.model_copy(update={"mode": "offered"}), ["--tls=on", "--tls-certificates=/state/nbdkit"]),
        (
            TLS.model_copy(update={"client_ca": Path("/ca.pem")}),
            ["--tls=require", "--tls-certificates=/state/nbdkit", "--tls-verify-peer"],
        ),
    ],
)
def test_tls_is_as_strict_as_ours(tls: NbdTls, options: list[str]) -> None:
    assert start(Nbdkit(), tls)[5:-3] == options


def test_the_folder_of_certificates_holds_links_by_the_names_that_nbdkit_knows() -> None:
    own = Path("/c.pem")
    assert command.links(TLS) == [("server-cert.pem", own), ("server-key.pem", Path("/k.pem")), ("ca-cert.pem", own)]
    clients = TLS.model_copy(update={"client_ca": Path("/ca.pem")})
    assert command.links(clients)[2] == ("ca-cert.pem", Path("/ca.pem"))


def farm(engine: str = "nbdkit", filters: tuple[str, ...] = ()) -> Farm:
    images = {name: Image.model_validate({"path": f"/i/{name}", "engine": engine}) for name in ("node", "db")}
    return Farm.model_validate({"images": images, "nbd": {"nbdkit": {"filters": filters}}})


def nbdkit_that(tmp_path: Path, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the only program on the PATH be an nbdkit that does what a shell script says."""
    program = tmp_path / "nbdkit"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_where_there_is_no_nbdkit_people_are_told_which_images_and_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    why = absent(farm())
    assert why is not None
    assert warning(farm(), why) == (
        "nbdkit cannot serve db, node, so pxeboot does, without its filters: "
        "it is not installed; apt-get install nbdkit nbdkit-plugin-python"
    )


@pytest.mark.parametrize(
    ("does", "why"),
    [
        (
            "echo \"nbdkit: error: cannot open plugin 'python': no such file\" >&2; exit 1",
            "nbdkit: error: cannot open plugin 'python': no such file; apt-get install nbdkit nbdkit-plugin-python",
        ),
        ("echo \"nbdkit: error: cannot open filter 'x'\" >&2; exit 1", "nbdkit: error: cannot open filter 'x'"),
        ('case "$*" in "--filter=a --filter=b python --dump-plugin");; *) echo "$*" >&2; exit 1;; esac', None),
    ],
)
def test_an_nbdkit_that_lacks_something_says_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, why: str | None
) -> None:
    nbdkit_that(tmp_path, does, monkeypatch)
    assert absent(farm(filters=("a", "b"))) == why


def test_nobody_looks_for_nbdkit_where_no_image_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert absent(farm(engine="pxeboot")) is None


def test_no_machine_is_sent_to_an_nbdkit_that_does_not_serve() -> None:
    engine = Engine(Nbdkit(), farm().images, DOOR, None, LINKS)
    assert not engine.serves
    assert not engine.has("node")
    assert not engine.ours(1)


@given(st.lists(st.floats(0, 1000), max_size=20))
def test_a_wait_is_never_longer_than_the_most_and_little_after_a_steady_run(runs: list[float]) -> None:
    backoff = Backoff()
    before = 0.0
    for ran_s in runs:
        wait_s = backoff.after(ran_s)
        assert LEAST_S <= wait_s <= MOST_S
        assert wait_s == (LEAST_S if ran_s >= STEADY_S or not before else min(before * 2, MOST_S))
        before = wait_s
