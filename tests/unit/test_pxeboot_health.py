"""What a disk tells of what is served."""

import asyncio
from pathlib import Path

from config.model import Farm
from pxeboot.health import Disk


def test_a_state_folder_that_cannot_be_looked_at_is_a_reason_and_no_fault_of_ours(tmp_path: Path) -> None:
    state = tmp_path / ("x" * 300)  # ENAMETOOLONG, as EIO or ESTALE of a disk that failed
    farm = Farm.model_validate({"server": {"state": state}})

    async def look() -> list[str]:
        return list((await Disk(lambda: farm).look()).missing)

    (reason,) = asyncio.run(look())
    assert reason == f"{state} cannot be read: File name too long"
