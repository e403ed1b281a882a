"""Clusters come and go while the controller runs."""

import asyncio
from pathlib import Path

import pytest

from config.model import Cluster, Farm
from pxeboot.controller import service
from pxeboot.controller.keeper import Keeper
from pxeboot.controller.process import Process


def farm_of(folder: Path, *names: str) -> Farm:
    clusters = {name: {"kubeconfig": folder / f"{name}.kube", "lts_conf": folder / f"{name}.conf"} for name in names}
    return Farm.model_validate({"clusters": clusters})


def test_a_cluster_that_we_fail_with_keeps_no_other_from_being_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    works = service.keeper

    def keeper(name: str, cluster: Cluster) -> Keeper:
        if name == "bad":
            raise KeyError("a bug")
        return works(name, cluster)

    monkeypatch.setattr(service, "keeper", keeper)

    async def main() -> tuple[list[str], str]:
        process = Process(farm_of(tmp_path))
        await process.follow(farm_of(tmp_path, "bad", "good"))
        kept = [*process.shared], process.standing()
        await process.follow(farm_of(tmp_path))
        return kept

    names, standing = asyncio.run(main())
    assert names == ["good"]
    assert standing.startswith(f"keeps bad, good; bad: {tmp_path}/bad.kube cannot be read: No such file")
    assert "bad: a fault of the controller itself" in caplog.text


def test_what_systemd_shows_follows_the_farms_file(tmp_path: Path) -> None:
    async def main() -> list[str]:
        process = Process(farm_of(tmp_path, "one"))
        said = [process.standing()]
        await process.follow(farm_of(tmp_path))
        process.reloads.refuse(["farm.yaml:3:1: no"], 0.0)
        return [*said, process.standing()]

    assert asyncio.run(main()) == ["keeps one", "keeps no cluster; the farm's file is refused: farm.yaml:3:1: no"]
