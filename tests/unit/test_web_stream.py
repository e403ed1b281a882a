"""What readers of the stream may cost."""

import asyncio

from pxeboot.web.stream import MOST_EVENTS, Stream


def test_readers_that_say_they_have_ever_other_versions_do_not_fill_the_memory() -> None:
    made: list[int] = []

    async def ask() -> None:
        stream = Stream(lambda: 7, lambda version: lambda: {"from": version}, asyncio.Event())
        for version in range(10 * MOST_EVENTS):
            event = await stream._event(version, 7)
            assert b'{"from":%d}' % version in event
            made.append(len(stream._events))

    asyncio.run(ask())
    assert max(made) == MOST_EVENTS


def test_readers_that_have_the_same_version_share_one_event() -> None:
    made: list[int] = []

    async def ask() -> None:
        def what(version: int) -> dict[str, object]:
            made.append(version)
            return {}

        stream = Stream(lambda: 7, lambda version: lambda: what(version), asyncio.Event())
        assert len(set(await asyncio.gather(*(stream._event(3, 7) for _ in range(20))))) == 1

    asyncio.run(ask())
    assert made == [3]
