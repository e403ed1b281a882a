"""Every failure of the API as one family, with a text that is fit for a log."""

import pytest

from pxeboot.kube.errors import AlreadyExists, Conflict, Unavailable, printable, refusal, retry_after

SECRET = "0123456789abcdef"


def test_what_the_api_says_of_a_secret_is_left_out_but_for_its_reason() -> None:
    error = refusal(422, "Invalid", f'data[token-secret]: Invalid value: "{SECRET}"', None, secret=True)
    assert str(error) == "HTTP 422 Invalid"
    assert str(refusal(403, f"x {SECRET}", "", None, secret=True)) == "HTTP 403"


def test_what_it_says_of_anything_else_is_told_without_tokens() -> None:
    error = refusal(422, "Invalid", f"kubeadm join --token abcdef.{SECRET}", 3.0, secret=False)
    assert str(error) == "HTTP 422: kubeadm join --token abcdef.<hidden>"
    assert (error.status, error.retry_after_s) == (422, 3.0)


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (409, "Conflict", Conflict),
        (409, "AlreadyExists", AlreadyExists),
        (409, "", Conflict),
        (404, "NotFound", Unavailable),
        (503, "AlreadyExists", Unavailable),
    ],
)
def test_who_was_faster_is_told_from_what_went_wrong(status: int, reason: str, kind: type[Unavailable]) -> None:
    assert type(refusal(status, reason, "", None, secret=False)) is kind


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0", 0.0),
        ("", None),
        ("-1", None),
        ("³", None),
        ("1e9", None),
        ("9" * 400, None),
        ("Wed, 21", None),
    ],
)
def test_retry_after_is_seconds_or_nothing(value: str, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_a_text_is_one_line_of_bounded_length() -> None:
    assert printable("a\nb\x1b[0m\u202e") == "a\\nb\\x1b[0m\\u202e"
    assert len(printable("x" * 10_000_000)) == 300
    assert len(str(Unavailable("\x00" * 1000))) <= 300
