"""The storm's TFTP client against our own wire and engine's rules, and what real firmware would refuse."""

import struct
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.storm_tftp import EDK2, GRUB, Fetch, Refused, Silent
from tftp import wire


def request_of(transfer: Fetch) -> wire.ReadRequest:
    packet = wire.decode(transfer.said)
    assert isinstance(packet, wire.ReadRequest)
    return packet


def ack(datagram: bytes | None) -> int | None:
    if datagram is None:
        return None
    packet = wire.decode(datagram)
    assert isinstance(packet, wire.Ack)
    return packet.block


def oack(**options: int) -> bytes:
    return b"\0\6" + b"".join(f"{name}\0{value}\0".encode() for name, value in options.items())


def data(block: int, content: bytes) -> bytes:
    return struct.pack("!HH", 3, block & 0xFFFF) + content


def test_it_asks_as_edk2_does() -> None:
    request = request_of(Fetch("grub/x86_64-efi/core.efi", EDK2))
    assert (request.filename, request.mode) == (b"grub/x86_64-efi/core.efi", "octet")
    assert dict(request.options) == {"blksize": "1468", "windowsize": "4"}


def test_a_size_probe_is_aborted_once_the_size_is_known() -> None:
    transfer = Fetch("core.efi", EDK2, probe=True)
    assert dict(request_of(transfer).options)["tsize"] == "0"
    said = transfer.receive(oack(tsize=606208, blksize=1468, windowsize=4))
    assert said is not None
    assert wire.decode(said) == wire.Error(wire.ErrorCode(8), "User aborted the transfer")
    assert (transfer.done, transfer.size_bytes) == (True, 606208)


def test_a_window_is_acknowledged_at_its_end() -> None:
    transfer = Fetch("x", {"blksize": 8, "windowsize": 2})
    assert ack(transfer.receive(oack(blksize=8, windowsize=2))) == 0
    acks = [ack(transfer.receive(data(n, b"12345678"))) for n in (1, 2, 3)]
    assert acks == [None, 2, None]
    assert ack(transfer.receive(data(4, b"1234"))) == 4
    assert transfer.done


def test_a_gap_is_complained_of_once() -> None:
    transfer = Fetch("x", {"blksize": 8, "windowsize": 4})
    transfer.receive(oack(blksize=8, windowsize=4))
    assert ack(transfer.receive(data(1, b"12345678"))) is None
    assert [ack(transfer.receive(data(n, b"12345678"))) for n in (3, 4)] == [1, None]


@pytest.mark.parametrize("options", [{"tsize": 5, "blksize": 1024, "windowsize": 4}, {"blksize": 1469}])
def test_firmware_takes_no_option_that_it_did_not_ask_for(options: dict[str, int]) -> None:
    with pytest.raises(Silent):
        Fetch("x", GRUB).receive(oack(**options))


def test_an_error_is_a_refusal() -> None:
    with pytest.raises(Refused, match="error 1"):
        Fetch("x", GRUB).receive(wire.Error(wire.ErrorCode.FILE_NOT_FOUND, "no such file").encode())


@given(st.binary(max_size=5000), st.integers(8, 600), st.integers(1, 9))
def test_what_it_fetched_is_what_was_sent(content: bytes, blksize: int, window: int) -> None:
    transfer = Fetch("x", {"blksize": blksize, "windowsize": window})
    transfer.receive(oack(blksize=blksize, windowsize=window))
    last = len(content) // blksize + 1
    for block in range(1, last + 1):
        said = transfer.receive(data(block, content[(block - 1) * blksize : block * blksize]))
        assert ack(said) == (block if block == last or block % window == 0 else None)
    assert transfer.done
    assert transfer.result(0).sha256 == sha256(content).hexdigest()
