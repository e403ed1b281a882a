"""A token for each boot: what is made, approved, denied and deleted when. The API and the machines are made up."""

import gc
import secrets
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from config.events import Stage
from pxeboot.controller import boot as acts
from pxeboot.controller.boots import Boots, Terms
from pxeboot.controller.request import KUBELET_SIGNER
from pxeboot.controller.token import MACHINES_GROUP, Token, boot_group
from pxeboot.joining.talk import BootBegun
from tests.support.boot_world import OWN, TTL_S, World, a_node, pem_for
from tests.support.kube_credentials import make_ca, openssl_ca_hash, public_kubeconfig

READY = [Stage.TOKEN, Stage.APPROVED, Stage.REGISTERED, Stage.READY]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def world(ca: Path) -> World:
    return World(public_kubeconfig("https://api.example:6443", ca))


def given(world: World, node: str = "m1", boot: str | None = None) -> tuple[str, str]:
    """A machine boots and has its command: return its boot and its token's id."""
    boot = world.begin(node, boot)
    world.settle(40)
    world.ask(node, boot)
    world.settle(2)
    answer = world.answer(boot)
    assert isinstance(answer, acts.Give), answer
    return boot, answer.join.token.id


def to_ready(world: World, node: str = "m1", boot_id: str = "new") -> str:
    boot, token_id = given(world, node)
    request = world.request(token_id, node)
    world.settle(1)
    assert world.approved(request)
    world.register(node, boot_id)
    world.settle(5)
    return boot


def last(world: World, boot: str) -> acts.Refuse:
    answer = world.answer(boot)
    assert isinstance(answer, acts.Refuse), answer
    return answer


# From the menu to Ready


def test_a_new_machine_becomes_ready_and_its_token_is_gone(world: World) -> None:
    boot = to_ready(world)
    assert world.stages(boot) == READY
    assert not world.tokens
    assert world.applied == ["m1"]
    assert list(world.engine.tokens()) == []


def test_the_command_has_the_server_and_the_ca_of_the_signed_cluster_info(world: World, ca: Path) -> None:
    boot, token_id = given(world)
    give = world.answer(boot)
    assert isinstance(give, acts.Give)
    command = give.join.reveal()
    token = Token.derived(world.seeds[boot])
    assert command == (
        f"kubeadm join api.example:6443 --token {token.reveal()} --discovery-token-ca-cert-hash {openssl_ca_hash(ca)}"
    )
    assert give.doubt is None
    assert token_id == token.id


def test_the_token_carries_the_two_groups_and_no_other(world: World) -> None:
    boot, token_id = given(world)
    assert world.tokens[token_id].groups == (MACHINES_GROUP, boot_group(boot, "m1"))


def test_a_cluster_info_that_stays_unsigned_is_not_waited_for_longer_than_10_s(world: World) -> None:
    world.signer = False
    boot = world.begin("m1")
    world.settle(20)
    asked = world.now
    world.ask("m1", boot)
    world.settle(9)
    assert boot not in world.answers
    world.settle(2)
    give = world.answer(boot)
    assert isinstance(give, acts.Give)
    assert give.join.discovery == OWN
    assert give.doubt is not None
    assert "not signed" in give.doubt
    assert world.tokens[give.join.token.id].expires == asked + TTL_S


def test_asked_again_the_answer_is_the_same_and_no_token_is_made(world: World) -> None:
    boot, _ = given(world)
    first = world.answer(boot)
    world.ask("m1", boot)
    assert world.answer(boot) == first
    assert len([action for action in world.did if isinstance(action, acts.Mint)]) == 1


def test_asked_with_another_seed_there_is_none(world: World) -> None:
    boot, _ = given(world)
    world.ask("m1", boot, secrets.token_hex(32))
    assert last(world, boot).after_s is None
    assert len(world.tokens) == 1


def test_a_boot_that_nobody_told_of_is_to_be_told_first(world: World) -> None:
    world.seeds["0" * 16] = "1" * 64
    world.ask("m1", "0" * 16)
    assert last(world, "0" * 16).after_s == 1.0


def test_a_boot_of_another_node_gets_no_token(world: World) -> None:
    boot = world.begin("m1")
    world.ask("m2", boot)
    assert isinstance(world.answer(boot), acts.Refuse)
    world.settle(60)
    assert not world.tokens


# The old life of the machine


def test_a_machine_whose_old_node_is_ready_joins_and_the_node_stays(world: World) -> None:
    world.nodes["m1"], world.beats["m1"] = a_node("m1"), 7
    boot, token_id = given(world)
    assert world.nodes["m1"].condition == "Unknown"
    request = world.request(token_id, "m1")
    world.settle(1)
    assert world.approved(request)
    world.settle(30)
    assert world.stages(boot) == [Stage.TOKEN, Stage.APPROVED]
    world.register("m1", "new", ready=False)
    world.settle(3)
    assert world.stages(boot)[-1] is Stage.REGISTERED
    world.register("m1", "new")
    world.settle(3)
    assert world.stages(boot) == READY
    assert world.nodes["m1"].uid == "u1"


def test_the_node_is_not_touched_before_its_machine_asks(world: World) -> None:
    world.nodes["m1"], world.beats["m1"] = a_node("m1"), 7
    world.begin("m1")
    world.settle(1700)
    assert world.nodes["m1"].ready
    assert not any(isinstance(action, acts.SetUnknown) for action in world.did)


def test_while_the_old_node_is_ready_without_beating_the_boot_is_not_told_ready(world: World) -> None:
    """Whatever sets it back to Ready, its kernel's boot id says that it is not of this boot."""
    world.nodes["m1"], world.beats["m1"] = a_node("m1"), 7
    boot, token_id = given(world)
    world.request(token_id, "m1")
    world.settle(1)
    world.nodes["m1"] = a_node("m1")
    world.settle(60)
    assert world.stages(boot) == [Stage.TOKEN, Stage.APPROVED]
    assert world.tokens


def test_a_second_machine_with_its_mac_gets_nothing_while_the_first_beats(world: World) -> None:
    world.nodes["m1"], world.beats["m1"] = a_node("m1"), 7
    boot = world.begin("m1")
    for _ in range(4):
        world.settle(10)
        world.beats["m1"] += 1
    world.ask("m1", boot)
    world.settle(2)
    assert "lives" in last(world, boot).reason
    assert last(world, boot).after_s is None
    assert world.stages(boot) == [Stage.FAILED]
    assert world.nodes["m1"].ready
    assert not world.tokens


def test_one_that_asks_at_once_is_kept_waiting_until_the_first_must_have_beaten(world: World) -> None:
    world.nodes["m1"], world.beats["m1"] = a_node("m1"), 7
    boot = world.begin("m1")
    world.settle(6)
    world.ask("m1", boot)
    world.settle(6)
    world.beats["m1"] += 1
    world.settle(10)
    assert last(world, boot).after_s is None
    assert not world.tokens


@pytest.mark.parametrize("lives", [True, False])
def test_a_node_that_is_ready_before_its_first_beat_is_waited_for_as_any_other(world: World, lives: bool) -> None:
    """A kubelet that asked for its Node too early beats 10 s later for the first time."""
    world.nodes["m1"] = a_node("m1")
    boot = world.begin("m1")
    world.settle(6)
    world.ask("m1", boot)
    world.settle(5)
    assert not world.tokens
    if lives:
        world.beats["m1"] = 1
    world.settle(10)
    assert bool(world.tokens) != lives
    assert world.nodes["m1"].ready == lives


def test_a_beat_that_was_on_its_way_when_the_machine_was_reset_is_no_sign_of_life(world: World) -> None:
    world.nodes["m1"], world.beats["m1"] = a_node("m1"), 7
    boot = world.begin("m1")
    world.settle(4)
    world.beats["m1"] += 1
    world.settle(20)
    world.ask("m1", boot)
    world.settle(2)
    assert isinstance(world.answer(boot), acts.Give)


# Certificate requests


def deny_case(world: World, **wrong: object) -> tuple[str, str]:
    boot, token_id = given(world)
    request = world.request(token_id, "m1", **wrong)  # type: ignore[arg-type]
    world.settle(2)
    assert world.approved(request) is False
    (deny,) = [action for action in world.did if isinstance(action, acts.Deny)]
    assert Stage.FAILED in world.stages(boot)
    return boot, deny.reason


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        pytest.param({"pem": pem_for("m2", "k")}, "subject", id="another node"),
        pytest.param({"pem": pem_for("m1", "k", attributes=b"\xa0\x02\x30\x00")}, "attributes", id="more names"),
        pytest.param({"pem": b"nonsense"}, "PEM", id="no request at all"),
        pytest.param({"usages": ("client auth", "server auth")}, "usages", id="other usages"),
    ],
)
def test_another_request_with_its_token_is_denied(world: World, wrong: dict[str, object], reason: str) -> None:
    boot, why = deny_case(world, **wrong)
    assert reason in why
    request = world.request(next(iter(world.tokens)), "m1")
    world.settle(1)
    assert world.approved(request), "the machine itself still joins"
    assert Stage.APPROVED in world.stages(boot)


def test_a_request_to_another_signer_is_left_alone_and_told(world: World) -> None:
    boot, token_id = given(world)
    request = world.request(token_id, "m1", signer="kubernetes.io/kube-apiserver-client")
    world.settle(100)
    assert world.approved(request) is None
    assert world.stages(boot) == [Stage.TOKEN, Stage.FAILED]


def test_a_second_key_is_denied_and_the_same_key_is_not(world: World) -> None:
    _, token_id = given(world)
    assert (first := world.request(token_id, "m1", "k1"))
    world.settle(1)
    second, again = world.request(token_id, "m1", "k2"), world.request(token_id, "m1", "k1")
    world.settle(1)
    assert [world.approved(request) for request in (first, second, again)] == [True, False, True]


def test_a_second_key_is_denied_while_the_first_approval_is_on_its_way(world: World) -> None:
    _, token_id = given(world)
    first, second = world.request(token_id, "m1", "k1"), world.request(token_id, "m1", "k2")
    world.settle(1)
    assert [world.approved(request) for request in (first, second)] == [True, False]


def test_a_token_with_groups_besides_its_own_is_not_approved(world: World) -> None:
    boot, token_id = given(world)
    groups = (MACHINES_GROUP, boot_group(boot, "m1"), "system:bootstrappers:kubeadm:default-node-token")
    request = world.request(token_id, "m1", groups=groups)
    world.settle(1)
    assert world.approved(request) is False


def test_another_token_with_the_groups_of_a_boot_is_not_approved(world: World) -> None:
    """It takes the right to make Secrets in kube-system to make one; even then."""
    boot, token_id = given(world)
    world.tokens["zzzzzz"] = world.tokens[token_id]
    request = world.request("zzzzzz", "m1", groups=(MACHINES_GROUP, boot_group(boot, "m1")))
    world.settle(1)
    assert world.approved(request) is False


def test_requests_of_boots_that_are_not_ours_are_left_alone_and_told_once(world: World) -> None:
    boot, token_id = given(world)
    strange = "f" * 16
    for key in "ab":
        request = world.request(token_id, "m1", key, groups=(MACHINES_GROUP, boot_group(strange, "m1")))
        world.settle(1)
        assert world.approved(request) is None
    world.settle(100)
    assert [tell.boot for tell in world.told if tell.node == ""] == [strange]
    assert world.stages(boot) == [Stage.TOKEN]


@pytest.mark.parametrize("odd", ["signer", "groups"])
def test_what_somebody_else_approved_takes_the_place_of_the_machines_own_only_if_it_is_that(
    world: World, odd: str
) -> None:
    boot, token_id = given(world)
    if odd == "signer":
        theirs = world.request(token_id, "m1", "k2", signer="kubernetes.io/kube-apiserver-client")
    else:
        groups = (MACHINES_GROUP, boot_group(boot, "m1"), "system:bootstrappers:more")
        theirs = world.request(token_id, "m1", "k2", groups=groups)
    assert theirs is not None
    world.todo.clear()
    world.feed(world.engine.request_seen(replace(theirs, approved=True), world.now))
    assert Stage.APPROVED not in world.stages(boot)
    own = world.request(token_id, "m1", "k1")
    world.settle(1)
    assert world.approved(own)


def test_a_request_that_comes_when_the_time_of_its_token_is_over_is_denied(world: World) -> None:
    _, token_id = given(world)
    request = world.request(token_id, "m1")
    assert request is not None
    world.todo.clear()
    later = replace(request, name="later", uid="later")
    (verdict,) = world.engine.request_seen(later, world.now + TTL_S)[:1]
    assert isinstance(verdict, acts.Deny)
    assert "time of its token" in verdict.reason


def test_a_boot_group_with_another_node_is_no_boot_of_ours(world: World) -> None:
    boot, token_id = given(world)
    request = world.request(token_id, "m2", groups=(MACHINES_GROUP, boot_group(boot, "m2")))
    world.settle(100)
    assert world.approved(request) is None


def test_people_are_told_of_a_few_denials_and_not_of_all(world: World) -> None:
    boot, token_id = given(world)
    requests = [world.request(token_id, "m2", str(number)) for number in range(20)]
    world.settle(5)
    assert all(world.approved(request) is False for request in requests)
    assert len([tell for tell in world.told if tell.stage is Stage.FAILED and tell.boot == boot]) == 3


# The end of a boot


def test_after_ready_the_token_opens_nothing(world: World) -> None:
    boot, token_id = given(world)
    issued = world.tokens[token_id]
    world.request(token_id, "m1", "k1")
    world.settle(1)
    world.register("m1", "new")
    world.settle(5)
    world.tokens[token_id] = issued  # the API server still takes it, from its cache
    request = world.request(token_id, "m1", "k1")
    world.settle(1)
    assert world.approved(request) is False
    world.ask("m1", boot)
    assert last(world, boot).after_s is None


def all_but_labels(world: World) -> None:
    """Do what is asked for; labels and taints cannot be set."""
    for action in [world.todo.pop(0) for _ in world.todo[:]]:
        world.perform(action, works=not isinstance(action, acts.ApplyOwned))


def test_at_ready_the_token_is_deleted_though_there_is_more_to_do(world: World) -> None:
    boot, token_id = given(world)
    world.request(token_id, "m1")
    world.settle(1)
    world.register("m1", "new")
    for _ in range(10):
        world.advance(1)
        all_but_labels(world)
    assert world.stages(boot) == READY
    assert not world.applied
    assert not world.tokens


def test_with_an_approved_certificate_no_token_is_given_any_more(world: World) -> None:
    boot, token_id = given(world)
    world.request(token_id, "m1")
    world.settle(1)
    world.ask("m1", boot)
    assert "approved already" in last(world, boot).reason
    assert last(world, boot).after_s is None


def test_the_token_of_a_boot_that_is_over_is_in_no_memory(world: World) -> None:
    boot, token_id = given(world, boot=secrets.token_hex(8))
    world.feed(world.engine.ended("m1", boot, world.now))
    world.settle(1)

    def kept() -> list[object]:
        return [thing for thing in gc.get_objects() if isinstance(thing, Token) and thing.id == token_id]

    assert kept(), "the world around has it"
    for around in (world.tokens, world.answers, world.did, world.todo):
        around.clear()
    gc.collect()
    assert kept() == []


def test_a_new_boot_ends_the_one_before_and_its_token(world: World) -> None:
    old, token_id = given(world)
    issued = world.tokens[token_id]
    new = world.begin("m1")
    world.settle(1)
    assert token_id not in world.tokens
    world.tokens[token_id] = issued
    request = world.request(token_id, "m1")
    world.settle(1)
    assert world.approved(request) is False
    world.ask("m1", old)
    assert "newer boot" in last(world, old).reason
    world.settle(40)
    world.ask("m1", new)
    world.settle(2)
    assert isinstance(world.answer(new), acts.Give)


def test_a_boot_whose_machine_boots_something_else_is_over(world: World) -> None:
    boot, token_id = given(world)
    issued = world.tokens[token_id]
    world.feed(world.engine.ended("m2", boot, world.now))
    world.feed(world.engine.ended("m1", "f" * 16, world.now))
    world.settle(1)
    assert token_id in world.tokens
    world.feed(world.engine.ended("m1", boot, world.now))
    world.settle(1)
    assert token_id not in world.tokens
    world.tokens[token_id] = issued
    request = world.request(token_id, "m1")
    world.settle(1)
    assert world.approved(request) is False
    world.ask("m1", boot)
    assert "boots something else" in last(world, boot).reason
    assert not world.engine.ended("m1", boot, world.now)


def test_what_was_to_be_approved_is_not_once_a_newer_boot_began(world: World) -> None:
    _, token_id = given(world)
    request = world.request(token_id, "m1")
    (approve,) = [action for action in world.todo if isinstance(action, acts.Approve)]
    world.todo.clear()
    world.begin("m1")
    world.perform(approve)
    world.settle(5)
    assert world.approved(request) is False


def test_what_was_to_be_approved_is_not_once_the_time_of_its_token_is_over(world: World) -> None:
    """The API was away for long, or this machine slept; the engine's own timer may come after the answer."""
    _, token_id = given(world)
    request = world.request(token_id, "m1")
    (approve,) = [action for action in world.todo if isinstance(action, acts.Approve)]
    world.todo.clear()
    world.now += TTL_S
    world.perform(approve)
    world.settle(5)
    assert world.approved(request) is False


@pytest.mark.parametrize("answered", [True, False])
def test_a_token_whose_making_was_on_its_way_when_its_boot_ended_is_deleted(world: World, answered: bool) -> None:
    boot = world.begin("m1")
    world.settle(20)
    world.ask("m1", boot)
    while not any(isinstance(action, acts.Mint) for action in world.todo):
        world.perform(world.todo.pop(0))
    mint = world.todo.pop(0)
    world.begin("m1")
    world.settle(1)
    world.perform(mint, answered=answered)
    world.settle(1)
    assert not world.tokens


def test_a_token_that_is_not_used_ends_with_its_time(world: World) -> None:
    boot, token_id = given(world)
    world.settle(TTL_S - 60)
    assert token_id in world.tokens
    world.settle(60)
    assert not world.tokens
    assert world.stages(boot) == [Stage.TOKEN, Stage.FAILED]
    assert "time" in world.told[-1].detail


def test_a_machine_that_takes_longer_than_its_token_lives_is_still_told_ready(world: World) -> None:
    boot, token_id = given(world)
    world.request(token_id, "m1")
    world.settle(TTL_S + 100)
    assert not world.tokens
    world.register("m1", "new")
    world.settle(5)
    assert world.stages(boot) == READY


@pytest.mark.parametrize("registers", [False, True])
def test_of_a_machine_that_does_not_become_ready_within_an_hour_people_are_told(world: World, registers: bool) -> None:
    boot, token_id = given(world)
    world.request(token_id, "m1")
    world.settle(10)
    if registers:
        world.register("m1", "new", ready=False)
    world.settle(3700)
    assert world.stages(boot)[-1] is Stage.FAILED
    assert "is not Ready after 60 minutes" in world.told[-1].detail
    assert world.engine.counts() == {}


def test_of_labels_that_cannot_be_set_people_are_told_and_it_is_not_tried_for_ever(world: World) -> None:
    boot, token_id = given(world)
    world.request(token_id, "m1")
    world.settle(1)
    world.register("m1", "new")
    for _ in range(2000):
        world.advance(2)
        all_but_labels(world)
    assert world.stages(boot)[-1] is Stage.FAILED
    assert "labels and taints after 60 minutes, and is left alone now: it is down" in world.told[-1].detail
    assert world.engine.counts() == {}
    assert not world.tokens


def test_a_boot_that_never_asks_is_over_after_half_an_hour(world: World) -> None:
    boot = world.begin("m1")
    world.settle(1801)
    world.ask("m1", boot)
    assert "did not ask" in last(world, boot).reason
    assert world.engine.counts() == {}


def test_a_revoked_token_is_gone_and_its_machine_gets_nothing_more(world: World) -> None:
    boot, token_id = given(world)
    request = world.request(token_id, "m1")
    assert world.engine.revoke("aaaaaa", world.now) is None
    world.feed(world.engine.revoke(token_id, world.now))
    assert [state.state for state in world.engine.tokens()] == ["is being deleted"]
    world.settle(5)
    assert not world.tokens
    assert world.approved(request) is False
    world.ask("m1", boot)
    assert "revoked" in last(world, boot).reason
    assert world.engine.revoke(token_id, world.now) is None


# The API away, the controller killed


def test_while_the_api_is_away_who_asks_is_told_why_and_when_to_come_back(world: World) -> None:
    boot = world.begin("m1")
    world.settle(20)
    world.ask("m1", boot)
    while world.todo:
        world.perform(world.todo.pop(), works=False)
    assert last(world, boot).reason == "it is down"
    assert last(world, boot).after_s == 1.0
    world.settle(10)
    world.ask("m1", boot)
    world.settle(1)
    assert isinstance(world.answer(boot), acts.Give)


def test_nobody_goes_on_trying_for_a_machine_that_asks_no_more(world: World) -> None:
    boot = world.begin("m1")
    world.settle(20)
    world.ask("m1", boot)
    for _ in range(200):
        world.advance(2)
        while world.todo:
            world.perform(world.todo.pop(), works=False)
    before = len(world.told), world.now
    world.advance(600)
    assert not world.todo
    assert before[0] == len(world.told)


def test_a_token_that_cannot_be_deleted_is_tried_again_until_its_life_is_long_over(world: World) -> None:
    boot = to_ready(world)
    assert world.stages(boot) == READY
    given(world, "m2")
    world.begin("m2")
    tries = 0
    for _ in range(700):
        world.advance(2)
        for action in world.todo:
            tries += isinstance(action, acts.DeleteToken)
            world.perform(action, works=not isinstance(action, acts.DeleteToken))
        world.todo.clear()
    assert 10 < tries < 100
    assert list(world.engine.tokens()) == []


def test_a_token_whose_deletion_fails_at_its_end_is_deleted_later(world: World) -> None:
    _, token_id = given(world)
    while not any(isinstance(action, acts.DeleteToken) for action in world.todo):
        world.advance(1)
    for action in world.todo:
        world.perform(action, works=False)
    world.todo.clear()
    assert token_id in world.tokens
    assert [state.state for state in world.engine.tokens()] == ["is being deleted"]
    world.settle(10)
    assert not world.tokens
    assert list(world.engine.tokens()) == []


def test_ready_is_told_even_if_the_token_cannot_be_deleted_yet(world: World) -> None:
    boot, token_id = given(world)
    world.request(token_id, "m1")
    world.settle(1)
    world.register("m1", "new")
    world.advance(2)
    while world.todo:
        action = world.todo.pop(0)
        world.perform(action, works=not isinstance(action, acts.DeleteToken))
    assert world.stages(boot) == READY
    assert token_id in world.tokens


KILLED_AFTER = [acts.Look, acts.SetUnknown, acts.Mint, acts.LookInfo, acts.Approve, acts.ApplyOwned, acts.DeleteToken]


@pytest.mark.parametrize("kind", KILLED_AFTER)
@pytest.mark.parametrize("done", [True, False])
def test_killed_at_any_step_the_boot_still_becomes_ready_with_one_token(
    world: World, kind: type[acts.Action], done: bool
) -> None:
    world.nodes["m1"], world.beats["m1"] = a_node("m1"), 7
    boot = world.begin("m1")
    killed, made, request, answered = False, set[str](), None, False
    for _ in range(400):
        world.advance(0.5)
        while world.todo:
            action = world.todo.pop(0)
            if isinstance(action, kind) and not killed:
                killed = True
                if done:
                    world.do(action)
                world.kill({"m1": boot})
                continue
            world.perform(action)
        made |= set(world.tokens)
        answered = any(isinstance(answer, acts.Give) for answer in world.answers.get(boot, ()))
        if not answered and world.now > 1030 and world.now % 5 == 0:
            world.ask("m1", boot)
        if answered and request is None:
            request = world.request(next(iter(world.tokens)), "m1")
        if request is not None and world.requests[request.uid].approved and not world.nodes["m1"].ready:
            world.register("m1", "new")
    assert killed
    assert Stage.READY in world.stages(boot)
    assert len(made) == 1
    assert not world.tokens
    assert world.applied


def test_after_a_restart_nothing_is_decided_before_all_requests_were_seen(world: World) -> None:
    boot, token_id = given(world)
    first = world.request(token_id, "m1", "k1")
    world.settle(1)
    assert world.approved(first)
    world.todo.clear()
    second = world.request(token_id, "m1", "k2")
    assert second is not None
    world.todo.clear()
    fresh = World(world.cluster_info)
    fresh.engine = Boots(Terms(TTL_S))
    fresh.seeds, fresh.tokens = world.seeds, world.tokens
    fresh.begin("m1", boot, given=True)
    fresh.requests = dict(world.requests)
    fresh.feed(fresh.engine.request_seen(second, fresh.now))
    fresh.settle(1)
    assert fresh.approved(second) is None
    assert first is not None
    fresh.feed(fresh.engine.request_seen(fresh.requests[first.uid], fresh.now))
    fresh.feed(fresh.engine.synced(fresh.now))
    fresh.settle(1)
    assert fresh.approved(second) is False


def test_after_a_restart_a_second_key_is_denied_though_its_boot_is_told_last(world: World) -> None:
    """The thief's request is the older one, and waits; that of the machine was approved."""
    boot, token_id = given(world)
    thiefs, own = (world.request(token_id, "m1", key) for key in ("k2", "k1"))
    assert thiefs is not None
    assert own is not None
    world.todo.clear()
    fresh = World(world.cluster_info, now=world.now)
    fresh.seeds, fresh.tokens = world.seeds, world.tokens
    fresh.requests = {thiefs.uid: thiefs, own.uid: replace(own, approved=True)}
    for request in fresh.requests.values():
        fresh.feed(fresh.engine.request_seen(request, fresh.now))
    fresh.settle(1)
    assert fresh.approved(thiefs) is None
    fresh.begin("m1", boot, given=True)
    fresh.settle(1)
    assert fresh.approved(thiefs) is False
    assert Stage.APPROVED in fresh.stages(boot)


def test_a_token_that_is_made_again_after_its_end_is_listed_and_deleted_as_any(world: World) -> None:
    boot, token_id = given(world)
    fresh = World(world.cluster_info, now=world.now + TTL_S + 100)
    fresh.seeds = world.seeds
    begun = BootBegun(boot, IPv4Address("10.0.0.9"), 0.0, {"rack": "r1"}, (), token_id)
    fresh.feed(fresh.engine.begun("m1", begun, fresh.now, -100.0))
    fresh.ask("m1", boot)
    fresh.settle(2)
    assert isinstance(fresh.answer(boot), acts.Give)
    assert [state.token_id for state in fresh.engine.tokens()] == [token_id]
    fresh.settle(TTL_S)
    assert not fresh.tokens


def test_a_boot_whose_token_has_ended_is_followed_by_a_controller_that_starts_then(world: World) -> None:
    boot, token_id = given(world)
    request = world.request(token_id, "m1")
    world.settle(TTL_S + 100)
    assert request is not None
    fresh = World(world.cluster_info, now=world.now)
    fresh.seeds = world.seeds
    begun = BootBegun(boot, IPv4Address("10.0.0.9"), 0.0, {"rack": "r1"}, (), token_id)
    fresh.feed(fresh.engine.begun("m1", begun, fresh.now, -100.0))
    fresh.feed(fresh.engine.request_seen(world.requests[request.uid], fresh.now))
    fresh.settle(5)
    fresh.register("m1", "new")
    fresh.settle(10)
    assert fresh.stages(boot) == [Stage.APPROVED, Stage.REGISTERED, Stage.READY]
    assert fresh.applied == ["m1"]


def test_a_controller_that_starts_when_a_token_has_ended_approves_nothing_of_it(world: World) -> None:
    """What was asked for with it in time may be a thief's; its machine has given up, and boots again."""
    boot, token_id = given(world)
    world.todo.clear()
    request = world.request(token_id, "m1")
    assert request is not None
    fresh = World(world.cluster_info, now=world.now + TTL_S + 100)
    fresh.seeds, fresh.requests = world.seeds, dict(world.requests)
    begun = BootBegun(boot, IPv4Address("10.0.0.9"), 0.0, {"rack": "r1"}, (), token_id)
    fresh.feed(fresh.engine.begun("m1", begun, fresh.now, -100.0))
    fresh.feed(fresh.engine.request_seen(request, fresh.now))
    fresh.settle(5)
    assert fresh.approved(request) is False
    assert list(fresh.engine.tokens()) == []
    fresh.settle(1800)
    assert fresh.engine.counts() == {}
    assert fresh.stages(boot) == [Stage.FAILED]


def test_told_again_what_a_boot_reached_is_told_again(world: World) -> None:
    boot = to_ready(world)
    before = [(tell.stage, tell.at) for tell in world.told]
    world.settle(100)
    world.told.clear()
    world.begin("m1", boot)
    assert [(tell.stage, tell.at) for tell in world.told] == before
    assert all(tell.again for tell in world.told)
    assert not world.todo


def test_many_boots_are_bounded_and_the_oldest_go_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pxeboot.controller.boots.MOST_BOOTS", 50)
    boots = [world.begin(f"m{number}") for number in range(80)]
    world.settle(10)
    assert sum(world.engine.counts().values()) == 50
    world.ask("m79", boots[79])
    world.settle(20)
    assert isinstance(world.answer(boots[79]), acts.Give)
    world.ask("m0", boots[0])
    assert isinstance(world.answer(boots[0]), acts.Refuse)


def test_a_machine_that_asks_for_its_menu_for_ever_ends_no_boot_but_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pxeboot.controller.boots.MOST_BOOTS", 50)
    other = world.begin("m2")
    for _ in range(100):
        newest = world.begin("m1")
        world.settle(0.1)
    for node, boot in (("m1", newest), ("m2", other)):
        world.settle(20)
        world.ask(node, boot)
        world.settle(20)
        assert isinstance(world.answer(boot), acts.Give), node


def test_a_boot_that_is_long_over_is_forgotten(world: World) -> None:
    boot = to_ready(world)
    world.settle(7300)
    world.begin("m2")
    world.settle(100)
    world.ask("m1", boot)
    assert last(world, boot).reason == "this boot was not told of yet"


def test_no_secret_is_in_what_is_shown(world: World) -> None:
    boot, token_id = given(world)
    secret = world.tokens[token_id].token.secret
    seen = [*world.did, *world.told, *world.answers[boot], *world.engine.tokens()]
    assert all(secret not in repr(value) and world.seeds[boot] not in repr(value) for value in seen)
    assert KUBELET_SIGNER in repr(world.request(token_id, "m1"))
