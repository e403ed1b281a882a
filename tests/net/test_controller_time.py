"""Tokens over their whole life, in seconds instead of minutes: the real keeper, the API over TLS, the file."""

import asyncio
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from config.ltsconf import JOIN_EXPIRES_KEY, LtsConf
from pxeboot.controller.engine import Terms
from pxeboot.controller.hosts import HostLines
from pxeboot.controller.join import JoinCommand
from pxeboot.controller.keeper import Keeper
from pxeboot.controller.lts_file import FilePlace, LtsFile, MadeFile
from pxeboot.controller.token import parse_rfc3339
from pxeboot.kube.api import Api
from pxeboot.kube.elector import Elector
from tests.support.kube_api import Fault
from tests.support.kube_thread import ROOT, ThreadedApi, join_command, running_api, until
from tests.support.stalls import Stalls, judged

pytestmark = pytest.mark.net

KEY = "RCFILE_07_JOIN_K8S"
SEED = "# ours\n[Default]\n" + "".join(f'FSTAB_{n:02}_X="tmpfs /x{n} tmpfs size=60% 0 0"\n' for n in range(40))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ThreadedApi]:
    with running_api(tmp_path / "kube") as api:
        yield api


@pytest.fixture
def lts_conf(tmp_path: Path) -> Path:
    path = tmp_path / "lts.conf"
    path.write_text(SEED)
    return path


@contextmanager
def keeping(
    api: ThreadedApi, lts_conf: Path, terms: Terms, elector: "Flickering | None" = None
) -> Iterator[tuple[Keeper, asyncio.AbstractEventLoop]]:
    """A keeper at work, in a thread and on a loop of its own."""
    place, made = FilePlace(LtsFile(lts_conf, "Default", KEY)), MadeFile.beside(lts_conf, "prod")
    keeper = Keeper("prod", Api("prod", api.api.kubeconfig), place, made, terms, HostLines(None))
    if elector is not None:
        keeper.led_by(cast(Elector, elector))
    loop = asyncio.new_event_loop()
    task = loop.create_task(keeper.run())

    def work() -> None:
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield keeper, loop
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def held(lts_conf: Path) -> tuple[str, float] | None:
    """The token's id in the file and its end; None without a command. The file is whole, whenever it is read."""
    text = lts_conf.read_text()
    conf = LtsConf.parse(text)
    ours = [line for line in text.splitlines(keepends=True) if KEY in line or line.startswith("JOIN_K8S_")]
    assert "".join(line for line in text.splitlines(keepends=True) if line not in ours) == SEED
    command, end = conf.get("Default", KEY), conf.get("Default", JOIN_EXPIRES_KEY)
    assert (command is None) == (end is None)
    return None if command is None or end is None else (JoinCommand.parse(command).token.id, parse_rfc3339(end))


def test_tokens_follow_each_other_and_a_valid_one_is_always_there(api: ThreadedApi, lts_conf: Path) -> None:
    seen: list[str] = []
    ttl_s = 4.0

    def look() -> None:
        now, holds = time.time(), held(lts_conf)
        assert holds is not None
        assert holds[1] > now
        assert holds[0] in api.token_ids, "what the file holds is a token of the API"
        assert len(api.token_ids) <= 3
        if holds[0] not in seen:
            seen.append(holds[0])

    with keeping(api, lts_conf, Terms(ttl_s=ttl_s, poll_s=0.2)):
        until(lambda: held(lts_conf) is not None, "the first token")
        began = time.monotonic()
        while len(seen) < 5:
            assert time.monotonic() < began + 120
            # A keeper that stood still as long as a token is good cannot have renewed it: who looks stood still too.
            judged(lambda: watch(look, 0.5), most_s=0.5)
        took_s = time.monotonic() - began
        until(lambda: not set(seen[:-2]) & set(api.token_ids), "the old tokens are deleted")
    assert len(seen) <= 2 + took_s / (ttl_s / 2)


def watch(look: Callable[[], None], for_s: float) -> None:
    """Look all the time."""
    end = time.monotonic() + for_s
    while time.monotonic() < end:
        look()
        time.sleep(0.005)


def test_a_token_leaves_the_file_when_it_expires_while_the_api_is_down(api: ThreadedApi, lts_conf: Path) -> None:
    with keeping(api, lts_conf, Terms(ttl_s=3, poll_s=0.2)):
        until(lambda: held(lts_conf) is not None, "the first token")
        api.inject(Fault.DOWN)
        last = held(lts_conf)
        with Stalls() as stalls:
            while (holds := held(lts_conf)) is not None:
                last = holds
                assert time.time() < last[1] + 60
                time.sleep(0.01)
            late_s = time.time() - last[1] if last else -1.0
        assert 0 <= late_s < 1 + 3 * stalls.longest_s, "as long as it was good, and no longer"
        assert lts_conf.read_text() == SEED
        api.inject(Fault.NONE)
        until(lambda: held(lts_conf) is not None, "a token again", 120)


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.INTERNAL, Fault.UNAUTHORIZED, Fault.NONSENSE])
def test_an_api_that_is_ill_is_asked_seldom_and_used_again_when_it_is_well(
    api: ThreadedApi, lts_conf: Path, fault: Fault
) -> None:
    api.inject(fault)
    with keeping(api, lts_conf, Terms(ttl_s=60)):
        until(lambda: len(api.api.requests) >= 2, "it is tried again", 120)
        time.sleep(2)
        times = [moment for moment, _, _ in api.api.requests]
        assert len(times) <= 5
        api.inject(Fault.NONE)
        until(lambda: held(lts_conf) is not None, "a token", 120)


def test_retry_after_is_obeyed(api: ThreadedApi, lts_conf: Path) -> None:
    api.inject(Fault.TOO_MANY_REQUESTS)
    with keeping(api, lts_conf, Terms(ttl_s=60)):
        until(lambda: len(api.api.requests) >= 2, "it is tried again", 120)
        first, second = (moment for moment, _, _ in api.api.requests[:2])
        assert 3 <= second - first < 20


def test_retry_after_is_obeyed_in_the_middle_of_making_a_token(api: ThreadedApi, lts_conf: Path) -> None:
    api.inject(Fault.TOO_MANY_CREATED)
    with keeping(api, lts_conf, Terms(ttl_s=600)):

        def made_at() -> list[float]:
            return [moment for moment, method, _ in api.api.requests if method == "POST"]

        until(lambda: len(made_at()) >= 2, "it is tried again", 120)
        times = [moment for moment, _, _ in api.api.requests]
        refused = made_at()[0]
        assert 3 <= min(moment for moment in times if moment > refused) - refused < 20
        assert not api.api.ever
        api.inject(Fault.NONE)
        until(lambda: held(lts_conf) is not None, "a token", 120)
    assert len(api.api.ever) == 1


def test_a_token_whose_making_was_not_answered_is_the_one_that_is_published(api: ThreadedApi, lts_conf: Path) -> None:
    api.inject(Fault.LOST)
    with keeping(api, lts_conf, Terms(ttl_s=600)):
        until(lambda: held(lts_conf) is not None, "a token", 120)
    [made] = api.api.ever
    holds = held(lts_conf)
    assert holds is not None
    assert holds[0] == made.token.id


class Flickering:
    """An elector that loses the lead when the controller has written down the token that it is about to make."""

    def __init__(self, noted: Path) -> None:
        self._noted = noted
        self.comes_back = False

    @property
    def leads(self) -> bool:
        return self.comes_back or not self._noted.exists()

    async def run(self) -> None:
        await asyncio.Event().wait()


def test_who_loses_the_lead_just_before_a_token_is_made_makes_none(api: ThreadedApi, lts_conf: Path) -> None:
    noted = MadeFile.beside(lts_conf, "prod").path
    elector = Flickering(noted)
    with keeping(api, lts_conf, Terms(ttl_s=600), elector) as (keeper, loop):
        until(noted.exists, "a token is written down")
        until(lambda: keeper.status()["leads"] is False, "it knows")
        looks = len(api.api.requests)
        time.sleep(1)
        assert not api.api.ever
        assert len(api.api.requests) <= looks + 1, "nor does it ask for anything"
        assert lts_conf.read_text() == SEED
        elector.comes_back = True
        loop.call_soon_threadsafe(keeper.wake)
        until(lambda: held(lts_conf) is not None, "a token", 120)
    assert len(api.api.ever) == 1


NOT_SIGNED = "the CA is that of our own kubeconfig, because kube-public/cluster-info is not signed"


def test_a_late_signer_is_waited_for(api: ThreadedApi, lts_conf: Path, caplog: pytest.LogCaptureFixture) -> None:
    api.api.signer_delay_s = 1.5
    with caplog.at_level("INFO"), keeping(api, lts_conf, Terms(ttl_s=600, signer_wait_s=60)):
        until(lambda: held(lts_conf) is not None, "it is pushed")
    assert NOT_SIGNED not in caplog.text


def test_without_a_signer_the_kubeconfigs_ca_is_used(
    api: ThreadedApi, lts_conf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api.api.signs = False
    with caplog.at_level("INFO"), keeping(api, lts_conf, Terms(ttl_s=60, signer_wait_s=1)):
        until(lambda: held(lts_conf) is not None, "a command")
        until(lambda: NOT_SIGNED in caplog.text, "people are told")
    assert f"kubeadm join 127.0.0.1:{api.api.port} " in join_command(lts_conf)


def test_a_token_deleted_behind_its_back_is_replaced(api: ThreadedApi, lts_conf: Path) -> None:
    with keeping(api, lts_conf, Terms(ttl_s=60, poll_s=0.2)):
        until(lambda: held(lts_conf) is not None, "the first token")
        first = held(lts_conf)
        assert first is not None
        api.forget(first[0])
        until(lambda: (held(lts_conf) or first)[0] != first[0], "another token")


def test_people_see_the_token_and_one_that_they_revoke_is_replaced_at_once(api: ThreadedApi, lts_conf: Path) -> None:
    with keeping(api, lts_conf, Terms(ttl_s=900)) as (keeper, loop):
        until(lambda: held(lts_conf) is not None, "the first token")
        until(lambda: keeper.tokens(), "people see it")
        (seen,) = keeper.tokens()
        first = held(lts_conf)
        assert first == (seen.id, seen.expires_s)
        assert keeper.status()["token"] == seen.id
        assert not asyncio.run_coroutine_threadsafe(keeper.revoke("zzzzzz"), loop).result(60), "none of ours"
        assert asyncio.run_coroutine_threadsafe(keeper.revoke(seen.id), loop).result(60)
        until(lambda: held(lts_conf) not in (first, None), "another token")
        until(lambda: api.token_ids == [keeper.tokens()[0].id], "people see that one")


def test_an_owners_edit_is_kept(api: ThreadedApi, lts_conf: Path) -> None:
    with keeping(api, lts_conf, Terms(ttl_s=4, poll_s=0.2)):
        until(lambda: held(lts_conf) is not None, "the first token")
        lts_conf.write_text(lts_conf.read_text() + "# a line more\n")
        first = join_command(lts_conf)
        until(lambda: join_command(lts_conf) not in (first, ""), "the next token")
        assert lts_conf.read_text().endswith("# a line more\n")


WRITER = """
import itertools, sys, time
from pathlib import Path
from pxeboot.controller.join import Discovery, JoinCommand
from pxeboot.controller.lts_file import LtsFile
from pxeboot.controller.token import Token
file = LtsFile(Path(sys.argv[1]), "Default", "RCFILE_07_JOIN_K8S")
print("ready", flush=True)
for number in itertools.count():
    pins = tuple(f"sha256:{digit:064x}" for digit in range(number % 9 + 1))
    file.publish(JoinCommand(Token.make(), Discovery("10.0.0.1:6443", pins)), 1735689600 + number)
"""


def test_no_reader_and_no_sigkill_meets_half_a_file(lts_conf: Path) -> None:
    """The file changes its length with every write; whoever reads it, whenever, finds one that is whole."""
    chance = random.Random(7)
    reads = 0
    for _ in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(lts_conf)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        end = time.monotonic() + chance.uniform(0.005, 0.25)
        while time.monotonic() < end:
            held(lts_conf)
            reads += 1
        assert writer.poll() is None, "it wrote until it was killed"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        held(lts_conf)
        assert lts_conf.stat().st_mode & 0o777 == 0o640 or lts_conf.read_text() == SEED
    assert reads > 100
    assert held(lts_conf) is not None
    leftovers = [path for path in lts_conf.parent.iterdir() if re.fullmatch(r"\.lts\.conf\..+", path.name)]
    assert all(path.stat().st_mode & 0o007 == 0 for path in leftovers)
