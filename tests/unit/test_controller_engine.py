"""The controller's decisions over time, against a small world that behaves like the API and the file."""

import base64
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pxeboot.controller.cluster_info import sign
from pxeboot.controller.engine import (
    Action,
    Complain,
    Delete,
    Engine,
    Followed,
    Made,
    Mint,
    Observation,
    Published,
    Push,
    Retract,
    Terms,
)
from pxeboot.controller.join import Discovery, JoinCommand
from pxeboot.controller.token import Token

TTL_S = 900.0
START = 1_700_000_000.0
OWN = Discovery("192.0.2.9:6443", (f"sha256:{'b1' * 32}",))

# The smallest certificate that has a public key: a serial number, four fields, and the key's empty SEQUENCE.
CERTIFICATE = base64.b64encode(bytes.fromhex("300f 300d 020101 3000 3000 3000 3000 3000")).decode()


def certificate(key: str) -> str:
    """Another one: its public key is the two bytes of `key`."""
    return base64.b64encode(bytes.fromhex(f"3011 300f 020101 3000 3000 3000 3000 3002 {key}")).decode()


def kubeconfig(server: str = "192.0.2.1:6443", cas: tuple[str, ...] = (CERTIFICATE,)) -> str:
    pem = "".join(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n" for body in cas)
    ca = base64.b64encode(pem.encode()).decode()
    return f"clusters:\n- name: ''\n  cluster:\n    certificate-authority-data: {ca}\n    server: https://{server}\n"


@dataclass
class World:
    """An API, an lts.conf and two clocks. `step` is one round of the controller."""

    terms: Terms = field(default_factory=lambda: Terms(ttl_s=TTL_S))
    now: float = START
    ahead_s: float = 0.0
    """How far the API's clock is ahead of `now`."""
    up: bool = True
    signs: bool = True
    server: str = "192.0.2.1:6443"
    own: Discovery | str = OWN
    cas: tuple[str, ...] = (CERTIFICATE,)
    hosts: tuple[str, ...] | None = ()
    tokens: dict[str, tuple[Token, float]] = field(default_factory=dict)
    """What the API has, with its ends by the API's clock."""
    published: Published | None = None
    made: Made | None = None
    """What the controller has in its own file."""
    minted: int = 0
    deleted: list[str] = field(default_factory=list)
    requests: list[float] = field(default_factory=list)
    probes: int = 0

    def __post_init__(self) -> None:
        self.engine = Engine(self.terms)

    def cluster_info(self) -> dict[str, str]:
        text = kubeconfig(self.server, self.cas)
        signatures = {f"jws-kubeconfig-{i}": sign(text.encode(), token) for i, (token, _) in self.tokens.items()}
        return {"kubeconfig": text, **(signatures if self.signs else {})}

    def look(self) -> Observation:
        seen = Observation(self.published, self.made, self.cluster_info(), self.own)
        doubtful = self.engine.doubtful(seen, self.now, self.ahead_s)
        self.probes += len(doubtful)
        gone = frozenset(token.id for token in doubtful if token.id not in self.tokens)
        return replace(seen, gone=gone, hosts=dict.fromkeys(self.engine.servers(seen), self.hosts))

    def step(self) -> list[Action]:
        """Look, act, and return what was done."""
        self.requests.append(self.now)
        api_now = self.now + self.ahead_s
        self.tokens = {i: held for i, held in self.tokens.items() if held[1] > api_now}  # tokencleaner
        if self.up:
            actions = self.engine.observe(self.look(), self.now, self.ahead_s)
        else:
            actions = self.engine.failed(self.published, self.now, jitter=0.5, ahead_s=self.ahead_s)
        for action in actions:
            self.carry_out(action)
        return actions

    def carry_out(self, action: Action) -> None:
        match action:
            case Mint(expires, api_expires):
                self.minted += 1
                token = Token(f"{self.minted:06}", f"{self.minted:016}")
                self.made = Made(token, expires)
                self.tokens[token.id] = (token, api_expires)
            case Push(join, expires):
                assert join.token.id in self.tokens, "published before the API has it"
                assert expires > self.now, "an expired token was published"
                self.published = action.published
            case Delete(token_id):
                assert token_id != self.token_id, "deleted what machines are told to use"
                self.deleted.append(token_id)
                self.tokens.pop(token_id, None)
            case Retract():
                self.published = None
            case Complain():
                pass

    def until(self, moment: float) -> list[Action]:
        """Step whenever the engine wants to, as far as `moment`; return all that was done."""
        done = []
        while self.engine.deadline <= moment:
            self.now = max(self.now, self.engine.deadline)
            done += self.step()
        self.now = moment
        return done

    def restart(self) -> None:
        self.engine = Engine(self.terms)

    @property
    def join(self) -> JoinCommand | None:
        return self.published.join if self.published else None

    @property
    def pins(self) -> tuple[str, ...]:
        return self.join.discovery.ca_hashes if self.join else ()

    @property
    def token_id(self) -> str | None:
        return self.join.token.id if self.join else None


def kinds(actions: list[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def test_the_first_round_makes_a_token_and_the_second_publishes_it() -> None:
    world = World()
    assert kinds(world.step()) == ["Mint"]
    assert world.engine.deadline == START
    assert kinds(world.step()) == ["Push"]
    assert world.published is not None
    assert world.published.expires == START + TTL_S
    assert world.join is not None
    assert world.join.discovery.server == "192.0.2.1:6443"
    assert world.engine.settled


def test_what_stands_is_left_alone() -> None:
    world = World()
    world.until(START)
    assert world.until(START + 449) == []


def test_at_half_its_life_a_token_is_followed_and_after_the_grace_deleted() -> None:
    world = World()
    world.until(START)
    assert kinds(world.until(START + 450)) == ["Mint", "Push"]
    assert set(world.tokens) == {"000001", "000002"}, "machines that have the old one can still join with it"
    assert world.token_id == "000002"
    assert kinds(world.until(START + 749)) == []
    assert world.until(START + 750) == [Delete("000001")]
    assert world.published is not None
    assert world.published.expires == START + 450 + TTL_S


def test_a_morning_needs_a_token_each_half_life_and_keeps_two_at_most() -> None:
    world = World()
    for minute in range(6 * 60):
        world.until(START + minute * 60)
        assert len(world.tokens) <= 2
        assert world.published is not None
        assert world.published.expires is not None
        assert world.published.expires >= world.now + TTL_S / 2
    assert world.minted == 6 * 3600 // 450


def test_a_short_life_has_a_short_grace() -> None:
    world = World(Terms(ttl_s=120))
    world.until(START + 60)
    assert len(world.tokens) == 2
    world.until(START + 119)
    assert len(world.tokens) == 2
    world.until(START + 120)
    assert set(world.tokens) == {"000003", "000002"}


def test_a_restart_goes_on_with_the_token_that_is_there() -> None:
    world = World()
    world.until(START + 100)
    world.restart()
    assert world.step() == []
    assert world.minted == 1
    assert world.engine.settled


def test_a_restart_between_making_and_publishing_uses_what_was_made() -> None:
    world = World()
    world.step()
    world.restart()
    assert kinds(world.step()) == ["Push"]
    assert world.minted == 1


def test_a_restart_deletes_what_an_earlier_controller_left() -> None:
    world = World()
    world.until(START + 450)
    world.restart()
    world.now = START + 760
    assert world.step() == [Delete("000001")]


def test_a_late_publication_gives_the_token_before_it_the_whole_grace() -> None:
    world = World()
    world.until(START + 449)
    world.now = START + 450
    world.step()  # makes the second token, and dies before it is published
    world.restart()
    world.now = START + 800
    assert kinds(world.step()) == ["Push"], "machines may have read the first token a moment ago"
    assert kinds(world.until(START + 899)) == []


def test_a_controller_that_takes_over_goes_on_with_what_is_published() -> None:
    world = World()
    world.until(START + 450)
    world.restart()
    world.made = None  # it has another disk
    world.now = START + 500
    assert world.step() == []
    assert kinds(world.until(START + 750)) == ["Delete"], "what another published before is deleted in its time"
    assert kinds(world.until(START + 900)) == ["Mint", "Push"]


def test_what_was_made_and_never_published_gives_way_to_what_another_published() -> None:
    world = World()
    world.until(START)
    world.now = START + 100
    stale = Token("zzzzzz", "z" * 16)
    world.made, world.tokens["zzzzzz"] = Made(stale, START + 950), (stale, START + 950)
    assert kinds(world.until(START + 130)) == []
    assert world.token_id == "000001"
    assert world.until(START + 449) == [Delete("zzzzzz")]


def test_a_controller_that_dies_before_the_token_is_made_makes_it_when_it_is_back() -> None:
    world = World()
    world.made = Made(Token("zzzzzz", "z" * 16), START + 900)  # on its disk, and not in the API
    assert kinds(world.until(START)) == ["Mint", "Push"]
    assert set(world.tokens) == {"000001"}


def test_a_lost_command_is_written_again() -> None:
    world = World()
    world.until(START)
    world.published = None
    assert kinds(world.until(START + 30)) == ["Push"]
    assert world.minted == 1


@pytest.mark.parametrize("expires", [None, START, START + TTL_S - 1])
def test_a_wrong_end_is_corrected(expires: float | None) -> None:
    world = World()
    world.until(START)
    assert world.published is not None
    world.published = Published(world.published.text, expires)
    assert "Push" in kinds(world.until(START + 30))
    assert world.published.expires == START + TTL_S


def test_somebody_elses_command_is_replaced() -> None:
    world = World(published=Published("kubeadm join old:6443 --token x", None))
    assert kinds(world.until(START)) == ["Mint", "Push"]


def test_a_token_that_was_deleted_under_us_is_replaced_at_the_next_look() -> None:
    world = World()
    world.until(START)
    world.tokens.clear()
    assert kinds(world.until(START + 30)) == ["Mint", "Push"]


def test_a_token_of_a_longer_life_than_ours_is_followed_at_once() -> None:
    long = JoinCommand(Token("zzzzzz", "z" * 16), OWN)
    world = World(tokens={"zzzzzz": (long.token, START + 80_000)}, published=Published(long.reveal(), START + 80_000))
    assert kinds(world.until(START)) == ["Mint", "Push"]
    assert kinds(world.until(START + 301)) == ["Delete"]
    assert world.deleted == ["zzzzzz"]


def test_a_token_that_somebody_else_wrote_is_not_ours_to_delete() -> None:
    by_hand = JoinCommand(Token("zzzzzz", "z" * 16), OWN)
    world = World(tokens={"zzzzzz": (by_hand.token, START + 80_000)}, published=Published(by_hand.reveal(), None))
    assert kinds(world.until(START + 440)) == ["Mint", "Push"]
    assert world.deleted == []


def test_another_address_is_published_with_the_same_token() -> None:
    world = World()
    world.until(START)
    world.server = "192.0.2.2:6443"
    assert kinds(world.until(START + 30)) == ["Push"]
    assert world.minted == 1
    assert world.join is not None
    assert world.join.discovery.server == "192.0.2.2:6443"


def test_the_configurations_address_wins_over_the_clusters() -> None:
    world = World(Terms(ttl_s=TTL_S, api_server="api.example.org:443"))
    world.until(START)
    assert world.join is not None
    assert world.join.discovery.server == "api.example.org:443"


def test_the_signer_is_waited_for() -> None:
    world = World(signs=False)
    assert kinds(world.until(START + 5)) == ["Mint"]
    assert world.published is None
    world.signs = True
    done = world.until(START + 6)
    assert kinds(done) == ["Push"]
    assert isinstance(done[0], Push)
    assert done[0].doubt is None


def test_without_a_signer_the_kubeconfigs_ca_is_taken_after_a_while() -> None:
    world = World(signs=False)
    done = world.until(START + 10)
    assert kinds(done) == ["Mint", "Push"]
    assert isinstance(done[1], Push)
    assert done[1].join.discovery == OWN
    assert done[1].doubt == "kube-public/cluster-info is not signed for token 000001"


def test_a_signer_that_comes_late_is_believed_then() -> None:
    world = World(signs=False)
    world.until(START + 11)
    world.signs = True
    done = world.until(START + 60)
    assert kinds(done) == ["Push"]
    assert isinstance(done[0], Push)
    assert done[0].join.discovery.server == "192.0.2.1:6443"


def test_without_any_ca_nothing_is_published_and_somebody_is_told() -> None:
    world = World(signs=False, own="the kubeconfig has no CA")
    done = world.until(START + 60)
    assert set(kinds(done)) == {"Mint", "Complain"}
    assert isinstance(done[-1], Complain)
    assert "no CA" in done[-1].reason
    assert "not signed" in done[-1].reason
    assert not world.engine.settled
    assert world.minted == 1


def test_a_forged_cluster_info_is_never_published() -> None:
    world = World(own="the kubeconfig has no CA")
    world.step()
    forged = sign(b"something else", world.tokens["000001"][0])
    data = {"kubeconfig": kubeconfig("203.0.113.66:6443"), "jws-kubeconfig-000001": forged}
    for second in range(60):
        seen = Observation(None, world.made, data, world.own)
        assert "Push" not in kinds(world.engine.observe(seen, START + second))


def test_losing_its_signature_does_not_take_a_good_command_away() -> None:
    world = World()
    world.until(START)
    world.signs = False
    assert world.until(START + 400) == []
    assert world.published is not None


def test_an_address_that_is_none_is_complained_of() -> None:
    world = World(Terms(ttl_s=TTL_S, api_server="not an address"))
    assert kinds(world.until(START)) == ["Mint", "Complain"]


def test_while_the_api_is_down_the_last_command_stays_until_its_end_and_no_longer() -> None:
    world = World()
    world.until(START)
    world.up = False
    assert kinds(world.until(START + TTL_S - 1)) == []
    assert world.published is not None
    assert world.until(START + TTL_S) == [Retract(START + TTL_S)]
    assert world.until(START + TTL_S + 3600) == []
    world.up = True
    assert kinds(world.until(START + TTL_S + 3630))[:2] == ["Mint", "Push"], "recovers within 30 s"


def test_a_down_api_is_asked_less_and_less_and_at_least_every_half_minute() -> None:
    world = World(up=False)
    world.until(START + 600)
    gaps = [after - before for before, after in pairwise(world.requests)]
    assert gaps[0] == 0.75
    assert all(later >= earlier for earlier, later in pairwise(gaps))
    assert gaps[-1] == 22.5
    assert max(gaps) <= 30


@pytest.mark.parametrize(
    ("jitter", "asked", "wait"),
    [(0.0, None, 0.5), (1.0, None, 1.0), (0.0, 7.0, 7.0), (0.0, 600.0, 60.0), (1.0, 0.1, 1.0)],
)
def test_retry_after_is_obeyed_up_to_a_minute(jitter: float, asked: float | None, wait: float) -> None:
    engine = Engine(Terms(ttl_s=TTL_S))
    engine.failed(None, START, jitter, asked)
    assert engine.deadline == START + wait


def test_a_command_without_an_end_is_left_alone_while_the_api_is_down() -> None:
    world = World(up=False, published=Published("kubeadm join by hand", None))
    assert world.until(START + 86400) == []


def test_a_token_that_the_api_swallows_is_not_made_over_and_over() -> None:
    engine = Engine(Terms(ttl_s=TTL_S))
    made, now = 0, START
    while now < START + 300:
        actions = engine.observe(Observation(None, None, None, OWN), now)
        made += kinds(actions).count("Mint")
        now = max(engine.deadline, now)
    assert made <= 300


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *("up", "down", "signs", "unsigned", "restart", "lose file", "lose tokens", "lose record", "nothing"),
                *("set back", "set ahead", "api's clock"),
            ]
        ),
        st.floats(1, 1000),
    ),
    max_size=12,
)


@settings(max_examples=20, deadline=None)
@given(EVENTS)
def test_whatever_happens_no_expired_command_stands_and_an_api_that_is_up_means_a_valid_one(
    events: list[tuple[str, float]],
) -> None:
    world = World()
    for event, wait_s in events:
        match event:
            case "up" | "down":
                world.up = event == "up"
            case "signs" | "unsigned":
                world.signs = event == "signs"
            case "restart":
                world.restart()
            case "lose file":
                world.published = None
            case "lose tokens":
                world.tokens.clear()
            case "lose record":
                world.made = None
            case "set back" | "set ahead":
                by_s = -wait_s if event == "set back" else wait_s
                world.now, world.ahead_s = world.now + by_s, world.ahead_s - by_s
                world.engine.deadline = world.now  # it sleeps for a minute at most, and by another clock
            case "api's clock":
                world.ahead_s += wait_s - 500
            case _:
                pass
        healthy_since = world.now
        end = world.now + wait_s
        while world.now < end:
            world.until(min(end, world.now + 15))
            held = world.published
            assert held is None or held.expires is None or held.expires > world.now
            if world.up and world.now - healthy_since > 30 + world.terms.signer_wait_s + 15:
                assert world.token_id in world.tokens
                assert len(world.tokens) <= 4


def test_no_secret_is_ever_read_and_one_that_is_signed_is_not_asked_for() -> None:
    world = World()
    world.until(START + 2000)
    assert world.probes == 0


def test_an_unsigned_token_is_asked_for_once_while_the_signer_is_waited_for() -> None:
    world = World(signs=False)
    world.until(START + 9)
    assert world.probes == 1
    assert len(world.requests) > 10


def test_a_clock_of_the_api_that_is_ahead_gives_the_token_its_whole_life() -> None:
    world = World(ahead_s=3600)
    world.until(START)
    assert world.published is not None
    assert world.published.expires == START + TTL_S
    assert world.tokens["000001"][1] == START + 3600 + TTL_S
    assert kinds(world.until(START + 449)) == []


def test_a_restart_beside_an_api_with_another_clock_makes_no_token() -> None:
    world = World(ahead_s=3600)
    world.until(START + 100)
    world.restart()
    assert world.engine.expire(world.published, world.now) == [], "it has not been asked yet"
    assert world.step() == []


def test_a_clock_that_is_a_little_off_is_taken_for_ours() -> None:
    world = World(ahead_s=4.0)
    world.until(START)
    assert world.tokens["000001"][1] == START + TTL_S
    world.ahead_s = -4.0
    assert world.until(START + 449) == []


def test_a_clock_of_ours_that_is_set_back_lets_no_token_live_longer() -> None:
    world = World()
    world.until(START + 400)
    world.up = False
    world.now, world.ahead_s = world.now - 300, 300
    assert kinds(world.until(START + 599)) == []
    assert world.published is not None
    world.engine.deadline = START + 600
    assert world.until(START + 600) == [Retract(START + 600)], "the instant that was START + 900 before"


def test_a_clock_of_ours_that_is_set_back_is_answered_with_a_token_whose_end_is_told_by_it() -> None:
    world = World()
    world.until(START + 100)
    world.now, world.ahead_s = world.now - 300, 300
    assert kinds(world.step()) == ["Mint"]
    assert kinds(world.step()) == ["Push"]
    assert world.published is not None
    assert world.published.expires == START - 200 + TTL_S
    assert world.tokens["000002"][1] == START + 100 + TTL_S


def test_a_clock_that_is_set_back_by_a_little_keeps_no_token_past_half_its_life() -> None:
    world = World()
    world.until(START + 440)
    world.now, world.ahead_s = world.now - 50, 50
    world.engine.deadline = START + 400
    assert kinds(world.until(START + 401)) == ["Mint", "Push"]


def test_a_clock_of_ours_that_is_set_ahead_ends_what_it_says_has_ended() -> None:
    world = World()
    world.until(START + 100)
    world.now, world.ahead_s = world.now + 3600, -3600
    assert kinds(world.step()) == ["Retract", "Mint"]
    assert kinds(world.step()) == ["Push", "Delete"]
    assert world.tokens["000002"][1] == START + 100 + TTL_S


@pytest.mark.parametrize("skew_s", [20.0, 200.0])
def test_servers_with_different_clocks_behind_one_address_cause_no_more_tokens(skew_s: float) -> None:
    world = World()
    for look in range(100):
        world.ahead_s = skew_s * (look % 2)
        world.now = START + 30 * look
        world.step()
        world.step()
    assert world.minted <= 100 * 30 // 420 + 2


def test_every_ca_of_cluster_info_is_pinned_while_they_change() -> None:
    world = World()
    world.until(START)
    first = world.pins
    world.cas = (CERTIFICATE, certificate("0500"))
    assert kinds(world.until(START + 30)) == ["Push"]
    both = world.pins
    assert both[:1] == first
    assert len(both) == 2
    world.cas = (certificate("0500"),)
    assert kinds(world.until(START + 60)) == ["Push"]
    assert world.pins == both[1:]
    assert world.minted == 1


def test_a_ca_that_the_kubeconfig_trusts_beside_the_clusters_is_pinned_too() -> None:
    world = World()
    world.until(START)
    today, tomorrow = world.pins, (f"sha256:{'c2' * 32}",)
    world.own = Discovery("192.0.2.9:6443", tomorrow + today)
    assert kinds(world.until(START + 30)) == ["Push"]
    assert world.pins == today + tomorrow
    world.own = Discovery("192.0.2.9:6443", tomorrow)
    assert kinds(world.until(START + 60)) == ["Push"], "a kubeconfig of another place has no say"
    assert world.pins == today


def test_a_cluster_info_that_a_tool_wrote_over_keeps_the_command_until_it_is_signed_again() -> None:
    world = World()
    world.until(START)
    world.signs, world.server = False, "192.0.2.66:6443"
    assert world.until(START + 60) == []
    world.signs = True
    assert kinds(world.until(START + 90)) == ["Push"]
    assert world.join is not None
    assert world.join.discovery.server == "192.0.2.66:6443"


def test_a_name_is_published_with_its_addresses_and_published_again_when_they_change() -> None:
    world = World(server="api.example.org:6443", hosts=("192.0.2.1 api.example.org",))
    world.until(START)
    assert world.published is not None
    assert world.published.hosts == ("192.0.2.1 api.example.org",)
    world.hosts = None
    assert world.until(START + 60) == [], "what nobody knows any more stays"
    world.hosts = ("192.0.2.2 api.example.org",)
    assert kinds(world.until(START + 90)) == ["Push"]
    assert world.published.hosts == ("192.0.2.2 api.example.org",)


def test_what_is_followed_is_published_with_its_end() -> None:
    world = World()
    world.until(START + 460)
    assert world.published is not None
    assert world.published.followed == (Followed("000001", START + 750),)
    world.until(START + 901)
    assert world.published.followed == (Followed("000002", START + 1200),)


def test_a_deletion_that_failed_is_tried_again() -> None:
    world = World()
    world.until(START + 749)
    world.now = START + 750
    assert world.engine.observe(world.look(), world.now) == [Delete("000001")]
    world.engine.failed(world.published, world.now, 0.5)
    assert world.until(START + 760) == [Delete("000001")]
