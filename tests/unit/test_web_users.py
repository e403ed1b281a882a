import asyncio
import logging
from base64 import b64encode
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from config.load import ConfigErrors, load
from config.observing import Web
from pxeboot.cli.user import command
from pxeboot.web import passwords
from pxeboot.web.attempts import MOST_OF_ALL, MOST_OF_ONE, WINDOW_S, Attempts
from pxeboot.web.exposure import notes
from pxeboot.web.users import Asker, Users, credentials

PASSWORD = "correct horse"
ANNA = f"anna:{passwords.keep(PASSWORD)}"
"""Made once: each costs 50 ms, as it should."""


def basic(name: str, password: str) -> str:
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "users"
    path.write_text(f"# who may\n{ANNA}\n")
    path.chmod(0o640)
    return path


def with_users(
    path: Path | None, act: Callable[[Users], Coroutine[Any, Any, Any]], clock: Callable[[], float] = lambda: 5.0
) -> Any:
    """Run `act` with the users of a farm whose file is at `path`."""

    async def run() -> Any:
        return await act(Users(lambda: Web(users=path), clock))

    return asyncio.run(run())


def asks(path: Path, *askers: Asker) -> list[str | int]:
    """Return whose each request is, or with which status it is refused."""

    async def act(users: Users) -> list[str | int]:
        out: list[str | int] = []
        for asker in askers:
            try:
                out.append(await users.person(asker))
            except web.HTTPException as refused:
                out.append(refused.status)
        return out

    said: list[str | int] = with_users(path, act)
    return said


# The hashes


def test_a_password_matches_its_own_hash_and_no_other() -> None:
    kept = passwords.parse(ANNA.partition(":")[2])
    assert kept.matches(PASSWORD)
    assert not kept.matches(PASSWORD + " ")
    assert str(passwords.parse(str(kept))) == str(kept)
    assert PASSWORD not in ANNA
    assert repr(kept) == "Kept(***)"


def test_two_hashes_of_one_password_differ() -> None:
    assert str(passwords.keep(PASSWORD)) not in ANNA


@pytest.mark.parametrize(
    "text",
    [
        "", "scrypt$", "$6$salt$hash", "scrypt$16384$8$1$!!$!!", "scrypt$16383$8$1$AAAAAAAAAAAAAAAA$AAAA",
        "scrypt$1073741824$8$1$AAAAAAAAAAAAAAAA$" + "A" * 43 + "=", "scrypt$16384$8$1$AAAA$" + "A" * 43 + "=",
        "scrypt$16384$8$1$AAAAAAAAAAAAAAAA$AAAA",
    ],
)  # fmt: skip
def test_a_hash_that_is_none_or_costs_too_much_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="hash") as refused:
        passwords.parse(text)
    assert text in ("", "scrypt$") or text not in str(refused.value)


@given(st.text(max_size=200))
def test_any_file_is_read(text: str) -> None:
    people, _ = passwords.parse_file(text)
    assert not people


def test_a_wrong_line_counts_for_nobody_and_keeps_the_others() -> None:
    people, wrong = passwords.parse_file(f"{ANNA}\nbo b:x\ncarl:{PASSWORD}\n")
    assert list(people) == ["anna"]
    assert [line.split(" is ")[0] for line in wrong] == ["line 2", "line 3"]
    assert PASSWORD not in " ".join(wrong)


def test_who_is_there_twice_is_nobody() -> None:
    people, wrong = passwords.parse_file(f"{ANNA}\n{ANNA}\n")
    assert not people
    assert "line 2" in wrong[0]


def test_a_new_password_replaces_a_line_and_leaves_the_others() -> None:
    kept = passwords.parse(ANNA.partition(":")[2])
    assert passwords.replaced("# x\nanna:old\nbob:b\n", "anna", kept) == f"# x\nbob:b\n{ANNA}\n"
    assert passwords.replaced("anna:old\nbob:b\n", "anna", None) == "bob:b\n"


# How often somebody may be wrong


def test_one_address_and_all_together_have_so_many_tries_in_a_minute() -> None:
    attempts = Attempts()
    for _ in range(MOST_OF_ONE):
        assert attempts.wait_s("a", 0.0) == 0
        attempts.begin("a", 0.0)
    assert attempts.wait_s("a", 1.0) == WINDOW_S - 1
    assert attempts.wait_s("b", 1.0) == 0
    for n in range(MOST_OF_ALL - MOST_OF_ONE):
        attempts.begin(f"b{n}", 2.0)
    assert attempts.wait_s("new", 3.0) > 0
    assert attempts.wait_s("a", WINDOW_S + 2) == 0


def test_a_try_that_was_right_is_no_failure() -> None:
    attempts = Attempts()
    for _ in range(3 * MOST_OF_ALL):
        assert attempts.wait_s("a", 0.0) == 0
        attempts.begin("a", 0.0)
        attempts.right("a")


# Whose a request is


def test_a_person_is_known_by_name_and_password(file: Path) -> None:
    local = "127.0.0.1"
    assert asks(
        file,
        Asker(basic("anna", PASSWORD), local, True),
        Asker(basic("anna", PASSWORD), local, True),  # remembered
        Asker(basic("anna", "wrong horse"), local, True),
        Asker(basic("nobody", PASSWORD), local, True),
        Asker("", local, True),
        Asker("Bearer abc", local, True),
        Asker("Basic %%%", local, True),
    ) == ["anna", "anna", 401, 401, 401, 401, 401]


def test_a_password_is_not_taken_where_others_can_read_along(file: Path) -> None:
    assert asks(file, Asker(basic("anna", PASSWORD), "10.0.0.9", False)) == [403]


def test_who_guesses_is_made_to_wait_and_who_is_known_is_not(file: Path) -> None:
    right, wrong = basic("anna", PASSWORD), basic("anna", "wrong horse")
    guesses = [Asker(wrong, "10.0.0.9", True)] * (MOST_OF_ONE + 2)
    said = asks(file, Asker(right, "10.0.0.9", True), *guesses, Asker(right, "10.0.0.9", True))
    assert said == ["anna", *[401] * MOST_OF_ONE, 429, 429, "anna"]


def test_a_changed_file_counts_at_once(file: Path) -> None:
    async def act(users: Users) -> list[object]:
        asker = Asker(basic("anna", PASSWORD), "127.0.0.1", True)
        out: list[object] = [await users.person(asker)]
        await asyncio.to_thread(file.write_text, "")
        for _ in range(2):
            try:
                out.append(await users.person(asker))
            except web.HTTPUnauthorized:
                out.append(None)
            await asyncio.to_thread(file.unlink, missing_ok=True)
        return out

    assert with_users(file, act) == ["anna", None, None]


def test_nobody_changes_anything_without_a_file() -> None:
    async def act(users: Users) -> object:
        try:
            return await users.person(Asker(basic("anna", PASSWORD), "127.0.0.1", True))
        except web.HTTPForbidden:
            return None

    assert with_users(None, act) is None


def test_neither_name_nor_password_of_a_wrong_try_is_logged(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asks(file, Asker(basic("my-secret", "wrong horse"), "10.0.0.9", True))
    assert "10.0.0.9 was wrong" in caplog.text
    assert "my-secret" not in caplog.text
    assert "wrong horse" not in caplog.text


@given(st.text())
def test_any_header_is_taken_apart(header: str) -> None:
    assert credentials(header) == ("", "") or header.lower().startswith("basic")


# pxeboot user


def run(*argv: str, said: str = f"{PASSWORD}\n") -> tuple[int, str]:
    done = CliRunner().invoke(command, argv, input=said)
    return done.exit_code, done.output


def test_the_command_makes_a_line_that_is_believed(tmp_path: Path) -> None:
    path = tmp_path / "users"
    assert run("bob", "--file", str(path))[0] == 0
    assert path.stat().st_mode & 0o777 == 0o640
    assert passwords.is_listed(passwords.parse_file(path.read_text())[0], "bob", PASSWORD)
    assert run("bob", "--file", str(path), "--remove")[0] == 0
    assert path.read_text() == ""


@pytest.mark.parametrize(
    ("argv", "said", "status", "why"),
    [
        (["an na"], PASSWORD, 2, "cannot be a name"),
        (["anna"], "short\n", 1, "8 characters or more"),
        (["anna"], "", 1, "8 characters or more"),
        (["anna", "--remove"], "", 2, "from which file"),
        (["anna", "--remove", "--file", "/nonexistent/users"], "", 1, "lists no anna"),
        (["anna", "--file", "/nonexistent/users"], PASSWORD, 1, "cannot be written: No such file"),
    ],
)
def test_the_command_says_what_is_wrong(argv: list[str], said: str, status: int, why: str) -> None:
    code, text = run(*argv, said=said)
    assert code == status
    assert why in text


# What people are told of it


@pytest.mark.parametrize(
    ("web", "told"),
    [
        (Web(), []),
        (Web(listen=("10.0.0.1:8067",)), []),
        (Web(users=Path("users")), []),
        (Web(users=Path("users"), listen=("127.0.0.1:8067", "10.0.0.1:8067")), ["only shows there"]),
        (Web(users=Path("users"), listen=("[::1]:8067", "0.0.0.0:80"), read="users"), ["nobody can read the page"]),
    ],
)
def test_a_page_that_takes_no_passwords_is_told_of(web: Web, told: list[str]) -> None:
    assert len(notes(web)) == len(told)
    assert all(words in line for words, line in zip(told, notes(web), strict=True))


def test_users_that_are_to_read_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "farm.yaml").write_text("web: {read: users}\n")
    with pytest.raises(ConfigErrors, match="`read: users` needs `users`"):
        load(tmp_path / "farm.yaml")
