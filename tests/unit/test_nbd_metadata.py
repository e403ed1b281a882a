"""What a client asks about metadata contexts, byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbd import metadata, wire
from nbd.metadata import MetaContextRequest

REQUESTS = [
    pytest.param("00000000 00000000", MetaContextRequest(""), id="default-export-no-query"),
    pytest.param(
        "00000004 6e6f6465 00000001 0000000f 626173653a616c6c6f636174696f6e",
        MetaContextRequest("node", ("base:allocation",)),
        id="as-nbdinfo-asks",
    ),
    pytest.param(
        "00000002 c3a9 00000002 00000000 00000002 783a", MetaContextRequest("é", ("", "x:")), id="an-empty-query"
    ),
]


@pytest.mark.parametrize(("recorded", "request_"), REQUESTS)
def test_a_request_matches_its_bytes(recorded: str, request_: MetaContextRequest) -> None:
    assert MetaContextRequest.decode(bytes.fromhex(recorded)) == request_
    assert request_.encode() == bytes.fromhex(recorded)


@pytest.mark.parametrize(("recorded", "request_"), REQUESTS)
def test_a_request_cut_short_or_with_more_is_refused(recorded: str, request_: MetaContextRequest) -> None:
    data = bytes.fromhex(recorded)
    for wrong in (*(data[:length] for length in range(len(data))), data + b"\0"):
        with pytest.raises(wire.MalformedPacket):
            MetaContextRequest.decode(wrong)


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        request = MetaContextRequest.decode(data)
    except wire.MalformedPacket:
        return
    assert request.encode() == data


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9), st.lists(st.text("ab:\u1234")))
def test_what_is_encoded_decodes_to_the_same(name: str, queries: list[str]) -> None:
    request = MetaContextRequest(name, tuple(queries))
    assert MetaContextRequest.decode(request.encode()) == request


def test_a_context_is_told_with_its_number() -> None:
    assert metadata.reply_data("base:allocation", 1) == b"\0\0\0\1base:allocation"
