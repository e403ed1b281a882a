"""The block number after 65535 is 0, or 1 where the farm says so (T-08, TQ9)."""

from itertools import chain, repeat

import pytest

from tests.support.tftp_client import Client, Exchange, Fate
from tftp import wire
from tftp.engine import Finished, Outcome, SendBlock, Transfer
from tftp.options import Terms

CONTENT = bytes(range(256)) * 4400  # 140,800 blocks of 8 bytes: the number wraps twice, the last block is empty


@pytest.mark.parametrize("windowsize", [1, 64])
def test_a_file_of_many_blocks_arrives_whole_where_1_follows(windowsize: int) -> None:
    terms = Terms(8, windowsize, None, {"blksize": "8"}, rollover=1)
    fates = chain(repeat(Fate.PASS, 131060), repeat(Fate.LOSE, 3)) if windowsize == 1 else ()
    client = Client(8, windowsize, rollover=1)
    done = Exchange(CONTENT, Transfer(len(CONTENT), terms), client, fates, delay_s=0.0001).run()
    assert done.client.content == CONTENT
    assert done.finished == Finished(Outcome.COMPLETE, None)


@pytest.mark.parametrize(("rollover", "wrong"), [(0, 1), (1, 0)])
def test_an_ack_that_counts_the_other_way_is_of_no_block(rollover: int, wrong: int) -> None:
    transfer = Transfer(8 * 70_000, Terms(8, 1, None, {}, rollover))
    transfer.start(0.0)
    for block in range(1, 65536):
        assert transfer.receive(wire.Ack(block), 0.001) == [SendBlock(block + 1, block * 8, 8)]
    assert transfer.receive(wire.Ack(wrong), 0.002) == []
    assert transfer.receive(wire.Ack(rollover), 0.002) == [SendBlock(65537, 65536 * 8, 8)]
