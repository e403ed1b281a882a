"""Conversations grown by what code they reach, against the NBD session, its answers and its short way.

    python -m tests.fuzz.fuzz_nbd [SECONDS [INPUT]]

The first byte of an input chooses the target in `TARGETS`. What a parser says it raises is fine. A session that
raises, answers what the specification does not allow, answers otherwise when the same bytes come in other pieces, or
keeps more than a bound, ends the run with a code that is not 0, prints the input, and leaves it in .build/fuzz. With
INPUT, a file, only that is run.
"""

import sys
from collections.abc import Callable
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["nbd"]):
    from nbd import wire
    from nbd.metadata import MetaContextRequest
    from tests.support import nbd_checks

from tests.fuzz.running import run
from tests.support import nbd_talk as talk

LONGEST = 1024


def packets(data: bytes) -> None:
    """The data of an option: whatever is understood says the same when it is said again."""
    for kind in (wire.InfoRequest, MetaContextRequest):
        with suppress(wire.MalformedPacket):
            request = kind.decode(data)
            assert request.encode() == data
            assert len(request.name.encode()) <= 4096


TARGETS: tuple[Callable[[bytes], None], ...] = (*nbd_checks.CHECKS, packets)


def once(data: bytes) -> None:
    """Run one input."""
    if len(data) > 1:
        try:
            TARGETS[data[0] % len(TARGETS)](data[1:])
        except Exception:
            print(f"failed in {TARGETS[data[0] % len(TARGETS)].__name__} with {data.hex()}", file=sys.stderr)
            raise


def seeds() -> list[bytes]:
    """A conversation of each kind, as items and as bytes."""
    found = []
    for form in (b"", b"\1\4", b"\1\x0a"):  # none, structured, extended
        for name in (1, 2):
            start = b"\x0c" + form + bytes((3, 75, name, 0)) + bytes((4, 8, name, 3, 1))
            commands = b"".join(
                bytes((6, kind, kind % 3, 4, 0, kind & 1, 0)) for kind in (0, 1, 3, 4, 5, 6, 7, 9, 0, 2)
            )
            found.append(b"\0" + start + commands)
    said = talk.request(talk.READ, 1, 0, 512) + talk.request(talk.WRITE, 2, 0, payload=b"x" * 40)
    said += talk.request(talk.BLOCK_STATUS, 3, 0, 4096) + talk.request(talk.DISC, 4)
    options = talk.option(talk.LIST) + talk.choose("node", 1, 3) + talk.option(99, b"x")
    found += [b"\1\0" + talk.FLAGS + options, *(b"\1" + bytes((9 + 3 * n,)) + said for n in range(2))]
    found.append(b"\1\x0c" + talk.request(talk.TRIM, 1, 0, 512, extended=True))
    found += [b"\2" + bytes((n, n, 1, 66, 130, 3, 195)) for n in range(8)]
    found.append(b"\3\0\0\7" + b"\2\1\2\2\3\4\2\5\6\6\x80\0\4\0\0\0\2\1\1")
    found += [b"\4" + option[16:] for option in (talk.choose("node", 1, 2, 3), talk.contexts("node", "base:", "x:y"))]
    return found


if __name__ == "__main__":
    run("corpus-nbd", once, seeds, LONGEST, timeout_s=10)
