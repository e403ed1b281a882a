"""The requests that are kept, by boot, when somebody makes more than is good."""

import base64

import pytest

from pxeboot.controller import filing
from pxeboot.controller.boot_service import _decode
from pxeboot.controller.filing import MOST_OF_BOOT, Filing
from pxeboot.controller.request import KUBELET_SIGNER
from pxeboot.controller.token import MACHINES_GROUP, boot_group
from pxeboot.kube.values import Request

ONE, OTHER = "1" * 16, "2" * 16


def request(number: int, boot: str = ONE, *, approved: bool = False) -> Request:
    groups = ("system:bootstrappers", MACHINES_GROUP, boot_group(boot, "m1"))
    return Request(
        *(f"csr-{number}", f"uid-{number}", 0.0, "system:bootstrap:abcdef", groups, KUBELET_SIGNER, (), b""),
        approved=approved,
    )


def test_who_asks_for_ever_in_one_boot_displaces_neither_what_was_approved_nor_what_others_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filing, "MOST", 200)
    kept = Filing()
    kept.put(request(1, approved=True), 0.0)
    kept.put(request(2, OTHER), 0.0)
    for number in range(3, 1003):
        kept.put(request(number), 0.0)
    assert kept.of(ONE)[0].request.name == "csr-1", "another key is approved only if none was before"
    assert len(kept.of(ONE)) == MOST_OF_BOOT
    assert [filed.request.name for filed in kept.of(OTHER)] == ["csr-2"]
    assert kept.get("uid-1002") is not None


def test_more_of_all_boots_than_there_may_be_displace_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filing, "MOST", 10)
    kept = Filing()
    for number in range(30):
        kept.put(request(number, f"{number:016x}"), 0.0)
    assert [filed.request.name for filed in kept] == [f"csr-{number}" for number in range(20, 30)]


@pytest.mark.parametrize(("condition", "is_kept"), [(None, True), ("Approved", True), ("Denied", False)])
def test_nothing_is_kept_of_a_request_that_was_denied(condition: str | None, is_kept: bool) -> None:
    conditions = [] if condition is None else [{"type": condition, "status": "True"}]
    raw = {
        "metadata": {"name": "csr-1", "uid": "u"},
        "spec": {"groups": [MACHINES_GROUP, boot_group(ONE, "m1")]},
        "status": {"conditions": conditions},
    }
    assert (_decode(raw) is not None) is is_kept


@pytest.mark.parametrize(("signer", "kept"), [(KUBELET_SIGNER, b"PEM"), ("kubernetes.io/kube-apiserver-client", b"")])
def test_of_what_is_left_alone_only_is_kept_that_it_is_there(signer: str, kept: bytes) -> None:
    groups = [MACHINES_GROUP, boot_group(ONE, "m1")]
    spec = {"groups": groups, "signerName": signer, "request": base64.b64encode(b"PEM").decode()}
    found = _decode({"metadata": {"name": "csr-1", "uid": "u"}, "spec": spec})
    assert found is not None
    assert (found.signer, found.pem) == (signer, kept)
