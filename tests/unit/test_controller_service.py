"""Which clusters have a keeper, and which of them would quarrel over a file."""

from pathlib import Path

import pytest

from config.clusters import Cluster, Push
from config.model import Farm
from pxeboot.controller.service import Conflict, keepers

PUSH = Push(name="pxeboot-lts")


def farm(**clusters: Cluster) -> Farm:
    return Farm(clusters=clusters)


def names(farm: Farm) -> list[str]:
    return [str(keeper.status()["published_to"]) for keeper in keepers(farm)]


def test_clusters_with_a_shared_token_have_a_keeper_and_others_none(tmp_path: Path) -> None:
    file = tmp_path / "lts.conf"
    found = farm(
        boots=Cluster(kubeconfig=Path("x")),
        own=Cluster(command="k3s agent"),
        file=Cluster(kubeconfig=Path("x"), lts_conf=file),
        pushed=Cluster(kubeconfig=Path("x"), lts_conf=tmp_path / "other.conf", push=PUSH),
    )
    assert names(found) == [str(file), "Secret pxeboot/pxeboot-lts"]


def test_clusters_may_share_a_file_by_sections(tmp_path: Path) -> None:
    file = tmp_path / "lts.conf"
    found = farm(a=Cluster(lts_conf=file, section="a*"), b=Cluster(lts_conf=file, section="b*"))
    assert names(found) == [str(file), str(file)]


@pytest.mark.parametrize("first", [True, False])
def test_a_file_that_is_a_copy_is_shared_with_nobody(tmp_path: Path, first: bool) -> None:
    file = tmp_path / "lts.conf"
    a = Cluster(lts_conf=file, section="a*", push=PUSH if first else None)
    b = Cluster(lts_conf=tmp_path / "x" / ".." / "lts.conf", section="b*", push=None if first else PUSH)
    with pytest.raises(Conflict, match=r"clusters a and b share .*lts.conf"):
        keepers(farm(a=a, b=b))


def test_one_section_of_one_file_is_one_clusters(tmp_path: Path) -> None:
    file = tmp_path / "lts.conf"
    with pytest.raises(Conflict, match=r"clusters a and b both write to section \[Default\]"):
        keepers(farm(a=Cluster(lts_conf=file), b=Cluster(lts_conf=file)))
