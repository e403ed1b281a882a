"""`pxeboot token`: what is shown of the controller's tokens, what is deleted, and with which exit code."""

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner

from pxeboot.cli import main
from pxeboot.cli.token import no_answer

NOW = 1_790_000_000.0
SECRET = "0123456789abcdef"
BOOT = {"cluster": "prod", "id": "aaaaaa", "node": "m1c29", "boot": "00" * 8, "made_s": NOW - 75,
        "expires_s": NOW + 525, "state": "waits for its machine", "secret": SECRET}  # fmt: skip
SHARED = {**BOOT, "cluster": "stage", "id": "bbbbbb", "node": "", "boot": "", "made_s": NOW - 4000,
          "expires_s": NOW - 10, "state": "in lts.conf"}  # fmt: skip


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


class Controller:
    """What answers on the socket. It gives away more than it should, which nobody may print."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokens = [dict(BOOT), dict(SHARED)]
        self.down = False

    async def listed(self, _: web.Request) -> web.Response:
        return web.json_response({"tokens": self.tokens})

    async def deleted(self, request: web.Request) -> web.Response:
        if self.down:
            return web.json_response({"error": "the API does not answer", "retry_after_s": 5.0}, status=503)
        where = request.match_info
        left = [token for token in self.tokens if (token["cluster"], token["id"]) != (where["cluster"], where["id"])]
        gone, self.tokens = len(left) < len(self.tokens), left
        return web.json_response({} if gone else {"error": "no such token"}, status=200 if gone else 404)


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    controller = Controller(tmp_path / "controller.sock")
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/v1/tokens", controller.listed)
        app.router.add_delete("/v1/tokens/{cluster}/{id}", controller.deleted)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(controller.path)).start()
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield controller
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


def run(*argv: str | Path, width: int = 120) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["token", *map(str, argv)], env={"COLUMNS": str(width)})
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_tokens_are_listed_by_id_with_their_machine_and_their_end(controller: Controller, width: int) -> None:
    status, out, err = run("list", "--socket", controller.path, width=width)
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= width
    for word in ("aaaaaa", "prod", "m1c29", "1 min 15 s ago", "in 8 min 45 s", "waits for its machine"):
        assert word in out
    for word in ("bbbbbb", "stage", "all machines", "10 s ago", "in lts.conf"):
        assert word in out
    assert out.index("bbbbbb") < out.index("aaaaaa"), "the newest comes last"
    assert SECRET not in out


def test_no_token_is_said(controller: Controller) -> None:
    controller.tokens = []
    assert run("list", "--socket", controller.path) == (0, "there is no token\n", "")


def test_json_has_what_is_known_and_no_secret(controller: Controller) -> None:
    status, out, _ = run("list", "--socket", controller.path, "--json")
    assert status == 0
    assert [set(token) for token in json.loads(out)["tokens"]] == [
        {"cluster", "id", "node", "boot", "made_s", "expires_s", "state"}
    ] * 2
    assert SECRET not in out


def test_the_socket_is_that_of_the_farms_file(controller: Controller, tmp_path: Path) -> None:
    farm = tmp_path / "farm.yaml"
    farm.write_text(f"server: {{controller: {controller.path}}}\n")
    assert run("list", "-c", farm)[0] == 0


def test_a_token_is_deleted_by_its_id(controller: Controller) -> None:
    assert run("revoke", "aaaaaa", "--socket", controller.path) == (0, "deleted token aaaaaa in prod, of m1c29\n", "")
    assert [token["id"] for token in controller.tokens] == ["bbbbbb"]
    status, out, _ = run("revoke", "bbbbbb", "--json", "--socket", controller.path)
    assert (status, json.loads(out)) == (0, {"revoked": [{"cluster": "stage", "id": "bbbbbb"}]})


def test_nothing_is_deleted_when_one_id_is_unknown(controller: Controller) -> None:
    status, out, err = run("revoke", "aaaaaa", "cccccc", "--socket", controller.path)
    assert (status, out) == (1, "")
    assert err == "pxeboot token: the controller knows no token cccccc; nothing was deleted\n"
    assert len(controller.tokens) == 2


def test_a_token_that_could_not_be_deleted_is_said(controller: Controller) -> None:
    controller.down = True
    status, out, err = run("revoke", "aaaaaa", "--socket", controller.path)
    assert (status, out) == (1, "")
    assert err == "pxeboot token: aaaaaa in prod is still there: the API does not answer\n"


@pytest.mark.parametrize("typed", [f"aaaaaa.{SECRET}", "AAAAAA", "", "../x"])
def test_what_is_no_id_is_refused_and_not_repeated(controller: Controller, typed: str) -> None:
    status, out, err = run("revoke", typed, "--socket", controller.path)
    assert (status, out) == (2, "")
    assert "an ID is the six letters or digits before a token's dot" in err
    assert SECRET not in err


def test_which_token_must_be_said() -> None:
    assert run("revoke")[0] == 2


def test_no_controller_is_said_in_plain_words(tmp_path: Path) -> None:
    missing = tmp_path / "controller.sock"
    assert run("list", "--socket", missing) == (
        1, "", f"pxeboot token: no controller has its socket at {missing}; "
        "is `pxeboot controller` running on this machine?\n",
    )  # fmt: skip
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(missing))
    status, _, err = run("revoke", "aaaaaa", "--socket", missing)
    assert status == 1
    assert "listens" in err
    os.unlink(missing)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied"), "only root"),
        (TimeoutError(), "does not answer in time"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (ValueError("no JSON object"), "is no `pxeboot controller`"),
    ],
)
def test_why_there_is_no_answer_is_said(error: OSError | ValueError, said: str) -> None:
    assert said in no_answer(Path("/run/x.sock"), error)
