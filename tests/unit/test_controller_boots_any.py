"""Whatever happens, in whatever order, to the boots of three machines: what must never be, never is."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from config.events import Stage
from pxeboot.controller import boot as acts
from pxeboot.controller.filing import named_boot
from pxeboot.controller.token import Token, node_digest
from tests.support.boot_world import TTL_S, World, a_node, pem_for

NODES = ("m1", "m2", "m3")
KEYS = ("its own", "a thief's")
nodes = st.sampled_from(NODES)


class Boots(RuleBasedStateMachine):
    """The daemon, the machines, thieves and a bad network, at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(signer=False, signer_wait_s=0.0)
        self.newest: dict[str, str] = {}
        self.boots: list[tuple[str, str]] = []
        self.tokens: dict[str, str] = {}
        self.stolen: dict[str, tuple[str, str]] = {}
        self.approved: dict[str, set[str]] = {}
        self.judged: set[str] = set()
        self.answered: dict[str, int] = {}
        self.orphans: set[str] = set()

    @rule(node=nodes, old=st.booleans())
    def a_machine_gets_its_menu(self, node: str, old: bool) -> None:
        if old and node not in self.world.nodes:
            self.world.nodes[node], self.world.beats[node] = a_node(node, uid=f"uid-{node}"), 1
        boot = self.world.begin(node)
        self.newest[node] = boot
        self.boots.append((boot, node))

    @rule(node=nodes)
    def a_machine_boots_something_else(self, node: str) -> None:
        boot = self.newest.pop(node, None)
        if boot is not None:
            self.world.feed(self.world.engine.ended(node, boot, self.world.now))

    @rule(node=nodes, asks=st.booleans())
    def a_machine_comes_to_its_command(self, node: str, asks: bool) -> None:
        self.a_machine_gets_its_menu(node, old=True)
        self.world.settle(20)
        self.world.ask(node, self.newest[node])
        if asks:
            self.world.settle(14)

    @rule(node=nodes)
    def the_daemon_tells_it_again(self, node: str) -> None:
        if node in self.newest:
            self.world.begin(node, self.newest[node])

    @rule(node=nodes)
    def it_asks(self, node: str) -> None:
        if node in self.newest:
            self.world.ask(node, self.newest[node])

    @rule(data=st.data(), node=nodes)
    def an_old_boot_asks_or_one_of_another_name(self, data: st.DataObject, node: str) -> None:
        if self.boots:
            boot, _ = data.draw(st.sampled_from(self.boots))
            self.world.ask(node, boot)

    @rule(data=st.data(), works=st.booleans(), answered=st.booleans())
    def something_is_carried_out(self, data: st.DataObject, works: bool, answered: bool) -> None:
        if self.world.todo:
            place = data.draw(st.integers(0, len(self.world.todo) - 1))
            self.world.perform(self.world.todo.pop(place), works=works, answered=answered)

    @rule(count=st.integers(1, 8))
    def much_is_carried_out(self, count: int) -> None:
        for _ in range(count):
            if self.world.todo:
                self.world.perform(self.world.todo.pop(0))

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0, 13.0, 60.0, TTL_S, 1900.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.advance(seconds)
        for token_id, issued in [*self.world.tokens.items()]:
            if self.world.now >= issued.expires:
                del self.world.tokens[token_id]

    @rule(seconds=st.sampled_from([1.0, 20.0]))
    def all_works_for_a_while(self, seconds: float) -> None:
        self.world.settle(seconds)

    @rule(data=st.data(), node=nodes, key=st.sampled_from(KEYS))
    def somebody_asks_for_a_certificate(self, data: st.DataObject, node: str, key: str) -> None:
        if self.world.tokens:
            token_id = data.draw(st.sampled_from(sorted(self.world.tokens)))
            request = self.world.request(token_id, node, key)
            if request is not None:
                self.stolen[request.uid] = (node, key)

    @rule(data=st.data(), keys=st.permutations(KEYS))
    def a_machine_and_a_thief_ask_for_its_certificate(self, data: st.DataObject, keys: list[str]) -> None:
        if self.world.tokens:
            token_id = data.draw(st.sampled_from(sorted(self.world.tokens)))
            for key in keys:
                node = self.world.tokens[token_id].node
                request = self.world.request(token_id, node, key)
                if request is not None:
                    self.stolen[request.uid] = (node, key)

    @rule(node=nodes)
    def its_kubelet_says_that_it_is_ready(self, node: str) -> None:
        boot = self.newest.get(node)
        if boot is not None and self.approved.get(boot):
            self.world.register(node, f"kernel of {boot}")

    @rule(node=nodes)
    def an_old_incarnation_beats(self, node: str) -> None:
        if node in self.world.beats:
            self.world.beats[node] += 1

    @rule()
    def the_controller_is_killed(self) -> None:
        self.orphans |= set(self.world.tokens)
        ready = {tell.boot for tell in self.world.told if tell.stage is Stage.READY}
        self.world.kill({node: boot for node, boot in self.newest.items() if boot not in ready})

    @rule(data=st.data())
    def a_token_is_revoked(self, data: st.DataObject) -> None:
        if self.world.tokens:
            self.world.feed(
                self.world.engine.revoke(data.draw(st.sampled_from(sorted(self.world.tokens))), self.world.now)
            )

    @invariant()
    def only_the_node_of_the_newest_boot_is_approved_and_one_key(self) -> None:
        for request in self.world.requests.values():
            if not request.approved or request.uid in self.judged:
                continue
            self.judged.add(request.uid)
            named = named_boot(request)
            assert named is not None
            node, key = self.stolen[request.uid]
            assert node_digest(node) == named.node_digest
            assert request.pem == pem_for(node, key)
            assert self.newest.get(node) == named.boot
            assert self.world.approved_at[request.uid] < self.world.ends[named.boot]
            self.approved.setdefault(named.boot, set()).add(key)
            assert len(self.approved[named.boot]) == 1

    @invariant()
    def a_boot_has_one_token_and_only_the_newest_is_given_it(self) -> None:
        for issued in self.world.tokens.values():
            assert issued.token == Token.derived(self.world.seeds[issued.boot])
            assert issued.expires <= self.world.now + TTL_S
        for boot, answers in self.world.answers.items():
            for answer in answers[self.answered.get(boot, 0) :]:
                if isinstance(answer, acts.Give):
                    assert self.newest.get(answer.node) == boot
                    assert answer.join.token == Token.derived(self.world.seeds[boot])
            self.answered[boot] = len(answers)

    @invariant()
    def the_engine_never_spins(self) -> None:
        deadline = self.world.engine.deadline
        if deadline is not None and deadline <= self.world.now:
            self.world.feed(self.world.engine.expire(self.world.now))
            deadline = self.world.engine.deadline
            assert deadline is None or deadline > self.world.now

    def teardown(self) -> None:
        """When all works again, no token is there but of the newest boots that are not Ready."""
        self.world.settle(30)
        ready = {tell.boot for tell in self.world.told if tell.stage is Stage.READY}
        for token_id, issued in self.world.tokens.items():
            if token_id not in self.orphans and self.world.now < issued.expires:
                assert self.newest.get(issued.node) == issued.boot
                assert issued.boot not in ready
        self.world.settle(8000)
        left = {token_id for token_id, issued in self.world.tokens.items() if token_id not in self.orphans}
        assert not left
        assert not self.world.engine.counts()


TestBoots = Boots.TestCase
TestBoots.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
