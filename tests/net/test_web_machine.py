"""The page of one machine: a boot of real clients drawn, its files without secrets, and who may change what."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pxeboot.web import passwords
from tests.support.browser import DESK, PHONE, Browser, scrolls_sideways, shot
from tests.support.certificates import Authority
from tests.support.fake_image import add_image
from tests.support.segment import Host, Segment, requires
from tests.support.served import (
    IP,
    JOIN,
    MAC,
    SERVER,
    TOKEN,
    Daemon,
    Prepared,
    http,
    make_grub,
    node,
    status_json,
    tftp,
)

pytestmark = pytest.mark.net

PAGE = "http://127.0.0.1:8067"
PASSWORD = "correct horse"
HASH = "$6$rounds=5000$saltsaltsalt$" + "Zx9" * 28
FIRMWARE = ("busybox", "udhcpc", "-f", "-n", "-q", "-t", "5", "-T", "2", "-i", "eth0", "-s", "/bin/true",
            "-V", "PXEClient:Arch:00007:UNDI:003016", "-x", "0x5d:0007")  # fmt: skip
"""A client that says what the firmware of a PC says, as far as the server looks at it."""
SECRETS = [TOKEN, JOIN, HASH, "geheimes-wort", PASSWORD]
REPORT = f"""== hostname
m1
== image
{"ab" * 32}
== mounts
overlay / overlay rw,relatime 0 0
== failed
chrony.service loaded failed failed NTP client
== join
{JOIN}
== shadow
root:{HASH}:19000::::::
"""


@dataclass
class World:
    """A daemon that served one boot of m1, and who looks at its page."""

    segment: Segment
    prepared: Prepared
    daemon: Daemon
    machine: Host
    folder: Path
    other_id: str
    """The version that the image `other` has, which m1 does not boot unless told."""

    def curl(self, path: str, *options: str, host: Host | None = None, page: str = PAGE) -> tuple[int, str]:
        """Return the status and the body, asked for on the server itself or on `host`."""
        host = host or self.segment.server
        argv = host.argv("curl", "-s", "-k", "-w", "\n%{http_code}", *options, f"{page}/{path}")
        said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=90).stdout
        body, _, code = said.rpartition("\n")
        return int(code), body

    def intent(self) -> dict[str, Any]:
        """Return what m1 is to do, as `pxeboot node` says."""
        found: dict[str, Any] = json.loads(node(self.prepared.control, "--json", "m1").stdout)["nodes"][0]
        return found


def boot(world_machine: Host, image_id: str, *, until: str = "system") -> None:
    """Let m1 boot as far as curl and udhcpc can."""
    said = world_machine.run(*FIRMWARE)
    assert IP in said.stdout + said.stderr
    world_machine.run("ip", "address", "replace", f"{IP}/24", "dev", world_machine.interface)
    card = MAC.replace(":", "-")
    assert tftp(world_machine, "grub/x86_64-efi/core.efi") is not None
    assert tftp(world_machine, f"grub/grub.cfg-01-{card}") is not None
    for name in ("vmlinuz", f"01-{card}/node.cpio", "initrd.img"):
        assert http(world_machine, f"images/{image_id}/{name}")[0] == 200
    assert http(world_machine, "report/network", "-d", "eth0 10.77.0.10")[0] == 204
    assert http(world_machine, f"images/{image_id}/root.squashfs")[0] == 200
    for stage, text in (("verified", "sha256 is right"), ("root", "squashfs over http"), ("prepared", "done")):
        assert http(world_machine, f"report/{stage}", "-d", text)[0] == 204
    if until == "system":
        assert http(world_machine, "report/system", "--data-binary", REPORT)[0] == 204


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("web")
    users = folder / "users"
    users.write_text(f"anna:{passwords.keep(PASSWORD)}\n")
    users.chmod(0o640)
    with Segment(client_address="10.77.0.50/24") as segment:
        prepared = Prepared(
            folder,
            make_grub(folder / "grub"),
            size_bytes=400_000,
            web={"listen": ["127.0.0.1:8067", f"{SERVER}:8067"], "users": str(users)},
            machine_logs={"syslog_port": 514},
            node={"root_password_hash": HASH},
            tags={"all": {"lts": {"WIFI_PSK": "geheimes-wort", "TZ": "Europe/Prague", "ADMIN": f"root/{HASH}"},
                          "kernel_parameters": ["console=ttyS0", "vault.token=geheimes-wort"],
                          "dhcp": {"mtu": 9000}}},
        )  # fmt: skip
        other = add_image(folder / "images", name="other", marker="two")
        farm = prepared.configuration.read_text().replace(
            "images:\n", f"images:\n  other: {{path: {folder}/images/other}}\n"
        )
        prepared.configuration.write_text(farm)
        daemon = Daemon(segment.server, folder, "-c", str(prepared.configuration))
        machine = segment.host(mac=MAC)
        for until in ("prepared", "system"):
            boot(machine, prepared.image.image_id, until=until)
        machine.run(
            "logger", "--udp", "--server", SERVER, "--port", "514", "-p", "daemon.err", "a disk is broken", check=False
        )
        yield World(segment, prepared, daemon, machine, folder, other.image_id)
        assert "Traceback" not in daemon.log
        assert not [secret for secret in SECRETS if secret in daemon.log]


@pytest.fixture(scope="module")
def browser(world: World) -> Iterator[Browser]:
    with Browser(world.segment.server, world.folder) as browser:
        yield browser


def wait(what: Callable[[], Any]) -> Any:
    """Return what `what` returns once that is true."""
    deadline = time.monotonic() + 90
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


# What it shows


@requires("curl", "busybox")
def test_the_page_tells_a_boot_without_a_script(world: World) -> None:
    code, page = world.curl("machines/m1")
    assert code == 200
    for told in ("system is up", "kernel is loaded", "root is checked", MAC, IP, "chrony.service", "this boot"):
        assert told in page, told
    assert page.count("<rect") >= 10


@requires("curl", "busybox")
def test_the_answer_that_it_really_got_is_told_with_its_rules(world: World) -> None:
    _, page = world.curl("machines/m1")
    answer = page[page.index('id="reply"') : page.index('id="files"')]
    for told in ("that it got", "DHCPACK", "grub/x86_64-efi/core.efi", "farm.yaml:", "our own GRUB for UEFI x64"):
        assert told in answer, told
    assert "now it would be" not in answer


@requires("curl", "busybox")
def test_its_files_are_there_and_no_secret_is_in_any_page(world: World) -> None:
    _, page = world.curl("machines/m1")
    assert f"images/{world.prepared.image.image_id}/vmlinuz" in page
    assert "RCFILE_07_JOIN_K8S=*** (the join command)" in page
    pages = [page, *(world.curl(path)[1] for path in ("", "pools/workers", "machines/nobody"))]
    assert not [secret for secret in SECRETS if any(secret in one for one in pages)]


@requires("curl", "busybox")
def test_to_look_does_not_count_as_a_boot(world: World) -> None:
    def seen() -> Any:
        return (
            status_json(world.prepared.control, "m1")["boots"],
            world.intent(),
            sorted(path.name for path in (world.folder / "state").iterdir()),
        )

    before = seen()
    world.curl("machines/m1")
    assert seen() == before


@requires("curl", "busybox", "logger")
def test_what_the_machine_logs_is_shown_and_can_be_chosen_from(world: World) -> None:
    wait(lambda: "a disk is broken" in world.curl("machines/m1")[1])
    _, page = world.curl("machines/m1?level=errors&source=syslog")
    log = page[page.index('id="lines"') :]
    assert "a disk is broken" in log
    assert "multi-user reached" not in log


@requires("curl", "busybox")
def test_a_machine_that_nobody_knows_has_no_page(world: World) -> None:
    code, page = world.curl("machines/%3Cscript%3E")
    assert code == 404
    assert "<script>" not in page
    assert world.curl("machines/a%2Fb")[0] == 404


# Who may change what


@requires("curl", "busybox")
@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        ((), 401, "A name and a password are needed"),
        (("-u", "anna:wrong horse"), 401, "wrong"),
        (("-u", "nobody:correct horse"), 401, "wrong"),
        (("-u", f"anna:{PASSWORD}", "-H", "Origin: http://evil.example"), 403, "Another site"),
        (("-u", f"anna:{PASSWORD}", "-H", "Origin: null"), 403, "Another site"),
        (("-u", f"anna:{PASSWORD}", "-H", "Sec-Fetch-Site: cross-site"), 403, "Another site"),
        (("-u", f"anna:{PASSWORD}", "-H", "Sec-Fetch-Site: same-site"), 403, "Another site"),
        (("-u", f"anna:{PASSWORD}", "-H", "Host: evil.example"), 421, "not a name it goes by"),
        (("-u", f"anna:{PASSWORD}", "-H", "Content-Type: text/plain"), 415, "no form of this page"),
        (("-u", f"anna:{PASSWORD}", "-X", "GET"), 405, ""),
    ],
)
def test_what_is_refused_changes_nothing(world: World, options: tuple[str, ...], code: int, why: str) -> None:
    said, page = world.curl("machines/m1/boot", "-d", "boot=refuse", *options)
    assert (said, why in page) == (code, True), page[-500:]
    assert world.intent()["boot"] == "netboot"


@requires("curl", "busybox")
@pytest.mark.parametrize("form", ["boot=disk", "boot=local&boot=refuse", "", "image=other"])
def test_a_form_that_says_nothing_clear_changes_nothing(world: World, form: str) -> None:
    code, page = world.curl("machines/m1/boot", "-d", form, "-u", f"anna:{PASSWORD}")
    assert code == 400
    assert "boot must be one of" in page
    assert world.intent()["boot"] == "netboot"


@requires("curl", "busybox")
def test_a_password_is_not_taken_where_others_can_read_along(world: World) -> None:
    page, options = f"http://{SERVER}:8067", ("-u", f"anna:{PASSWORD}")
    code, said = world.curl("machines/m1/boot", "-d", "boot=refuse", *options, host=world.segment.client, page=page)
    assert code == 403
    assert "plain HTTP" in said
    code, said = world.curl("machines/m1", host=world.segment.client, page=page)
    assert code == 200
    assert '<form method="post"' not in said


@requires("curl", "busybox")
def test_an_image_is_chosen_for_the_next_boot_and_used_up_by_it(world: World) -> None:
    options = ("-u", f"anna:{PASSWORD}", "-o", "/dev/null")
    try:
        assert world.curl("machines/m1/image", "-d", "image=other", "-d", "once=yes", *options)[0] == 303
        told = world.intent()
        assert (told["image"], told["image_once"], told["by"]) == ("other", True, "anna")
        assert "m1: image=other once, says anna (the web page)" in world.daemon.log
        menu = http(world.machine, "grub/grub.cfg")[1].decode()
        assert f"images/{world.other_id}/vmlinuz" in menu
        assert "intent/started" in menu
        assert http(world.machine, "intent/started") == (200, b"boot\n")
        assert world.intent()["image"] == ""
        assert world.prepared.image.image_id in http(world.machine, "grub/grub.cfg")[1].decode()
        assert world.curl("machines/m1/image", "-d", "image=gone", *options)[0] == 404
        said = node(world.prepared.control, "m1", f"image=other@{world.other_id[:8]}")
        assert f"image=other@{world.other_id[:12]}" in said.stdout
    finally:
        node(world.prepared.control, "m1", "image=")


# In a browser


@requires("chromium", "busybox")
def test_a_person_logs_in_and_says_what_machines_boot(world: World, browser: Browser) -> None:
    page = browser.open(f"{PAGE}/machines/m1", user=("anna", PASSWORD))
    try:
        page.click("text=Log in")
        page.wait_for_selector("text=You are anna")
        page.check("input[name=boot][value=local]")
        page.click("form[action='m1/boot'] button")
        page.wait_for_selector("text=boot=local")
        assert (world.intent()["boot"], world.intent()["by"]) == ("local", "anna")
        page.goto(f"{PAGE}/pools/workers")
        page.check("input[name=machine]")
        page.select_option("select[name=boot]", "netboot")
        page.click("form[method=post] button")
        page.wait_for_selector("text=boot=netboot")
        assert world.intent()["boot"] == "netboot"
        assert "m1: boot=local, says anna (the web page)" in world.daemon.log
    finally:
        node(world.prepared.control, "m1", "boot=netboot")
        page.context.close()


@requires("chromium", "busybox")
def test_the_page_follows_the_machine(world: World, browser: Browser) -> None:
    page = browser.open(f"{PAGE}/machines/m1")
    page.wait_for_selector(".live.on, #drawn")
    assert http(world.machine, "report/joining", "-d", "kubeadm runs")[0] == 204
    page.wait_for_selector("#drawn >> text=kubeadm runs")
    page.wait_for_selector("#head >> text=joins its cluster")
    page.context.close()


@requires("chromium", "busybox")
@pytest.mark.parametrize(("size", "name"), [(DESK, "desk"), (PHONE, "phone")])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_fits_its_window_with_and_without_a_script(
    world: World, browser: Browser, size: tuple[int, int], name: str, dark: bool
) -> None:
    page = browser.open(f"{PAGE}/machines/m1", size, dark=dark, script=not dark)
    page.wait_for_selector("#drawn rect.bar")
    assert page.is_visible("text=system is up >> nth=0")
    if not dark:
        assert not scrolls_sideways(page)
    page.screenshot(path=shot(f"machine-{name}-{'dark' if dark else 'light'}.png"), full_page=True)
    page.context.close()


@requires("chromium", "busybox")
def test_no_page_breaks_its_own_policy(browser: Browser) -> None:
    assert browser.troubles == []


# Other ways to set it up


@requires("curl", "busybox")
def test_without_users_the_page_only_shows_and_with_read_users_it_asks_everybody(world: World, tmp_path: Path) -> None:
    world.daemon.stop()
    for web, look, change in (({}, 200, 403), ({"users": str(world.folder / "users"), "read": "users"}, 401, 401)):
        prepared = Prepared(tmp_path / str(look), world.folder / "grub", web=web)
        daemon = Daemon(world.segment.server, tmp_path, "-c", str(prepared.configuration))
        try:
            for path in ("", "machines/m1", "pools/workers", "events" if look == 401 else ""):
                assert world.curl(path)[0] == look
            assert world.curl("machines/m1/boot", "-d", "boot=local")[0] == change
            assert world.curl("healthz")[0] == 200
            if look == 401:
                assert world.curl("machines/m1", "-u", f"anna:{PASSWORD}")[0] == 200
            else:
                assert "This page only shows" in world.curl("machines/m1")[1]
        finally:
            daemon.stop()


@requires("curl", "openssl")
def test_over_tls_a_person_may_change_something_from_a_network(world: World, tmp_path: Path) -> None:
    world.daemon.stop()
    certificate, key = Authority(tmp_path).sign("page")
    web = {
        "users": str(world.folder / "users"),
        "listen": [f"{SERVER}:8067"],
        "tls": {"certificate": str(certificate), "key": str(key)},
    }
    prepared = Prepared(tmp_path / "farm", world.folder / "grub", web=web)
    daemon = Daemon(world.segment.server, tmp_path, "-c", str(prepared.configuration))
    try:
        patience = ("--retry", "25", "--retry-delay", "1", "--retry-connrefused")  # it listens a moment later
        page, options = f"https://{SERVER}:8067", (*patience, "-d", "boot=local", "-o", "/dev/null", "-u")
        for password, code in (("wrong horse", 401), (PASSWORD, 303)):
            asked = ("machines/m1/boot", *options, f"anna:{password}")
            assert world.curl(*asked, host=world.segment.client, page=page)[0] == code
        assert "m1: boot=local, says anna (the web page)" in daemon.log
    finally:
        daemon.stop()
