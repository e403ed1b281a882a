"""Two controllers of one cluster that push, against the real API server: one leads, whatever happens to either."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from config.ltsconf import JOIN_EXPIRES_KEY, LtsConf
from pxeboot.controller.join import JoinCommand
from pxeboot.controller.token import parse_rfc3339
from pxeboot.kube.api import Api, Unavailable
from tests.support.control_plane import ControlPlane
from tests.support.cut_line import CutLine
from tests.support.kube_thread import ROOT, until
from tests.support.lasting import Lasting

pytestmark = pytest.mark.net

KEY = "RCFILE_07_JOIN_K8S"
TTL_S = 24.0
"""Half of it is the time between two tokens; a farm's are 120 s and more."""
LEAD_S = 4


class Tokens(Lasting):
    """Sees every token of ours that is ever there, with an administrator's eyes: each lives for many looks."""

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__()
        self._plane = plane
        self.ever: list[str] = []
        self.now: set[str] = set()
        self._looks = 0

    def run(self) -> None:
        asyncio.run(self._look())

    def look(self) -> None:
        """Wait until what is there now is seen: for the end of a look that begins after this."""
        looks = self._looks
        until(lambda: self._looks >= looks + 2, "two looks at the tokens", 120)

    async def _look(self) -> None:
        api = Api("admin", self._plane.kubeconfig)
        query = {"labelSelector": "app.kubernetes.io/managed-by=pxeboot"}
        while not self.ended.is_set():
            with suppress(Unavailable):
                listed = await api.call("GET", "/api/v1/namespaces/kube-system/secrets", query=query)
                names = [item["metadata"]["name"].removeprefix("bootstrap-token-") for item in listed["items"]]
                self.ever += [name for name in names if name not in self.ever]
                self.now = set(names)
                self._looks += 1
            await asyncio.sleep(0.25)
        await api.close()


@dataclass
class One:
    """One controller, on a host of its own: its file, its credentials, its line to the API."""

    folder: Path
    kubeconfig: Path
    process: subprocess.Popen[bytes] | None = None
    bad: list[str] = field(default_factory=list)
    """What a look at its file found wrong."""

    @property
    def file(self) -> Path:
        return self.folder / "lts.conf"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.support.push_controller"),
                    *(str(self.kubeconfig), str(self.file), str(TTL_S), str(LEAD_S)),
                ],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def token(self) -> tuple[str, float] | None:
        """The token in its file and its end; the file is whole whenever it is read."""
        if not self.file.exists():
            return None
        conf = LtsConf.parse(self.file.read_text())
        command, end = conf.get("Default", KEY), conf.get("Default", JOIN_EXPIRES_KEY)
        assert (command is None) == (end is None)
        return None if command is None or end is None else (JoinCommand.parse(command).token.id, parse_rfc3339(end))

    def led_at(self) -> str:
        """When it last began to lead, by its log; "" for never."""
        lines = [line for line in self.log.splitlines() if line.endswith("we lead now")]
        return lines[-1][:23] if lines else ""

    def holds_a_valid_one(self) -> bool:
        token = self.token()
        return token is not None and token[1] > time.time()


@pytest.fixture
def farm(plane: ControlPlane, kubeconfig: Path, tmp_path: Path) -> Iterator[tuple[list[One], list[CutLine], Tokens]]:
    plane.kubectl("delete", "-n", "kube-system", "secret", "-l", "app.kubernetes.io/managed-by=pxeboot")
    plane.kubectl("delete", "-n", "pxeboot", "secret/pxeboot-lts", "lease/pxeboot-controller", "--ignore-not-found")
    plane.kubectl("create", "-n", "pxeboot", "secret", "generic", "pxeboot-lts")
    with ExitStack() as stack:
        tokens = stack.enter_context(Tokens(plane))
        ones, lines = [], []
        for name in ("a", "b"):
            folder = tmp_path / name
            folder.mkdir()
            line = stack.enter_context(CutLine(plane.address, plane.port))
            own = folder / "kubeconfig"
            own.write_text(kubeconfig.read_text().replace(plane.url, f"https://{plane.address}:{line.port}"))
            own.chmod(0o600)
            ones.append(One(folder, own))
            lines.append(line)
            stack.callback(ones[-1].kill)
        yield ones, lines, tokens


def watching(ones: list[One], healthy: Callable[[One], bool], for_s: float) -> None:
    """Look at the files all the time. Who is healthy has a command that is good, and nobody has half a file."""
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        for one in ones:
            token = one.token()
            if healthy(one) and (token is None or token[1] <= time.time()):
                one.bad.append(f"{time.time():.1f}: {token}")
        time.sleep(0.05)


def test_one_of_two_leads_and_both_have_what_it_pushed(
    farm: tuple[list[One], list[CutLine], Tokens],
) -> None:
    """Then the leader is killed, and the other goes on with the token that it finds."""
    (a, b), _, tokens = farm
    a.start()
    until(a.holds_a_valid_one, "the first has a command", 120)
    began = time.monotonic()
    b.start()
    until(b.holds_a_valid_one, "the second has a copy", 120)
    until(lambda: a.token() == b.token(), "the same", 60)
    assert "made token" not in b.log
    a.kill()
    tokens.look()
    rotations = len(tokens.ever)
    assert rotations <= 2 + (time.monotonic() - began) / (TTL_S / 2)
    watching([b], lambda one: True, 2 * LEAD_S)
    until(lambda: len(tokens.ever) > rotations, "the second follows the token when its time comes", TTL_S + 120)
    until(lambda: b.token() is not None and b.token()[0] == tokens.ever[-1], "it is in its file", 60)  # type: ignore[index]
    tokens.look()
    until(lambda: b.log.count("made token") == len(tokens.ever) - rotations, "it made them all", 60)
    assert not b.bad
    a.start()
    until(lambda: a.token() == b.token(), "the first has a copy again", 120)


def test_a_leader_that_is_killed_stopped_or_cut_off_costs_no_token(
    farm: tuple[list[One], list[CutLine], Tokens],
) -> None:
    """Four blows, each to whoever leads then; the other has a command that is good all the time."""
    (a, b), (line_a, line_b), tokens = farm
    for one in (a, b):
        one.start()
    until(lambda: a.holds_a_valid_one() and b.holds_a_valid_one(), "both have a command", 120)
    begin = time.monotonic()
    blows = ["kill", "stop", "refuse", "silence"]
    for blow in blows:
        one, line, other = (a, line_a, b) if a.led_at() > b.led_at() else (b, line_b, a)
        led_at = other.led_at()
        match blow:
            case "kill":
                one.kill()
            case "stop":
                one.send(signal.SIGSTOP)
            case _:
                line.cut(silent=blow == "silence")
        watching([other], lambda _: True, 1.25 * LEAD_S)
        until(lambda other=other, led_at=led_at: other.led_at() > led_at, f"the other leads after: {blow}", 120)  # type: ignore[misc]
        match blow:
            case "kill":
                one.start()
            case "stop":
                one.send(signal.SIGCONT)
            case _:
                line.mend()
        watching([other], lambda _: True, 1.5)
        until(lambda: a.token() == b.token(), f"both have the same again after: {blow}", 120)
    took_s = time.monotonic() - begin
    assert not a.bad + b.bad
    rotations = took_s / (TTL_S / 2)
    print(f"{len(tokens.ever)} tokens in {took_s:.0f} s: {rotations:.1f} half lives, {len(blows)} ends of the lead")
    assert len(tokens.ever) <= rotations + 2, "a token for each half life, and none for a blow"
    until(lambda: len(tokens.now) <= 2, "those before are deleted", TTL_S + 120)


def test_an_api_server_that_is_killed_again_and_again_costs_no_token(
    plane: ControlPlane, farm: tuple[list[One], list[CutLine], Tokens]
) -> None:
    (a, b), _, tokens = farm
    for one in (a, b):
        one.start()
    until(lambda: a.holds_a_valid_one() and b.holds_a_valid_one(), "both have a command", 120)
    begin = time.monotonic()
    for _ in range(2):
        plane.kill_api()
        watching([a, b], lambda _: False, 1.0)
        plane.start_api()
        watching([a, b], lambda _: False, 2.0)
    until(lambda: a.holds_a_valid_one() and a.token() == b.token(), "both have the same command again", 120)
    took_s = time.monotonic() - begin
    print(f"{len(tokens.ever)} tokens in {took_s:.0f} s and two ends of the API server")
    assert len(tokens.ever) <= took_s / (TTL_S / 2) + 2
    assert all("Traceback" not in one.log for one in (a, b))
