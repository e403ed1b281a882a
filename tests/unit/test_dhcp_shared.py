"""dhcp.shared: what a server that shares its pools promises, asks and writes up."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from config.dhcp import INFINITE_S
from config.model import Farm
from dhcp.actions import Action, Store
from dhcp.engine import Server
from dhcp.fast import FastPath
from dhcp.leases import NEVER, SOMEBODY, Lease, Leases, State
from dhcp.options import MessageType, Option
from dhcp.plan import plan
from dhcp.replies import Send
from dhcp.request import Arrival, Ignored, Reason
from dhcp.shared import KEPT_S, LATE_S, LEAD_S, SKEW_S, Book
from dhcp.shared_acts import Act, Ask, Deny, Go, Keep, Lost, Why
from dhcp.shared_wire import Done, Entry, Refused, Remove, Unknown, Write
from tests.support.dhcp_clients import message

NOW = 1_790_000_000.0
X, Y = "02:00:00:00:00:01", "02:00:00:00:00:02"
A1, A2 = IPv4Address("10.77.0.10"), IPv4Address("10.77.0.11")
ELSEWHERE = IPv4Address("10.99.0.1")
OURS, THEIRS = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.2")
LEASE_S = 7200
END = int(NOW) + LEASE_S


def lease(client: str = X, address: IPv4Address = A1, expires: int = END, state: State = State.BOUND) -> Lease:
    return Lease(address, client, expires, state)


def entry(kept: Lease, version: int = 1, until: int | None = None) -> Entry:
    if until is None:
        until = NEVER if kept.expires == NEVER else kept.expires + LEASE_S
    return Entry(kept, until, f"{version}.uid")


def book(*entries: Entry, records: tuple[Lease, ...] = (), now: float = NOW) -> tuple[Book, Leases, list[Act]]:
    """In touch with an API that has `entries`; and what was done when its list was over."""
    leases = Leases(records, now, LEASE_S)
    made = Book(leases, lambda address: address in (A1, A2))
    leases.others = made
    return made, leases, listed(made, *entries, now=now)


def listed(of: Book, *entries: Entry, now: float = NOW) -> list[Act]:
    acts: list[Act] = []
    of.begin_list()
    for each in entries:
        acts += of.changed(each, now)
    of.list_over()
    while of.busy:
        acts += of.expire(now)
    return acts


def asked(acts: list[Act]) -> Write:
    [act] = acts
    assert isinstance(act, Ask)
    assert isinstance(act.wish, Write)
    return act.wish


def test_a_lease_is_kept_once_the_api_has_it() -> None:
    ours, leases, _ = book()
    leases.remember(lease())
    write = asked(ours.put(lease(), 7, NOW))
    assert write == Write(Entry(lease(), END + LEASE_S), replaces="")
    assert ours.answered(write, Done(entry(lease())), NOW) == [Go(7, lease())]
    assert ours.put(lease(), 8, NOW) == [Go(8, lease())]


def test_a_renewal_replaces_the_version_that_is_known() -> None:
    ours, _, _ = book(entry(lease(), 4))
    later = lease(expires=END + 600)
    assert asked(ours.put(later, 1, NOW + 600)).replaces == "4.uid"


def test_who_was_slower_gets_nothing_and_knows_whose_it_is() -> None:
    ours, leases, _ = book()
    leases.remember(lease(X))
    write = asked(ours.put(lease(X), 1, NOW))
    theirs = entry(lease(Y))
    assert ours.answered(write, Refused(theirs), NOW) == [Deny(1, Why.TAKEN), Keep(theirs.lease)]
    assert leases.bound(A1, NOW) == theirs.lease
    assert not leases.is_free(A1, X, NOW)
    assert ours.taken == 1


def test_what_was_refused_because_our_copy_was_old_is_asked_again() -> None:
    ours, _, _ = book(entry(lease(), 4))
    write = asked(ours.put(lease(expires=END + 600), 1, NOW))
    again = asked(ours.answered(write, Refused(entry(lease(expires=END + 9), 6)), NOW))
    assert again == replace(write, replaces="6.uid")
    gone = asked(ours.answered(again, Refused(None), NOW))
    assert gone.replaces == ""


def test_what_is_refused_again_and_again_is_given_up() -> None:
    ours, _, _ = book()
    acts = ours.put(lease(), 1, NOW)
    for _ in range(20):
        if not isinstance(acts[0], Ask):
            break
        acts = ours.answered(acts[0].wish, Refused(None), NOW)
    assert acts == [Deny(1, Why.TAKEN)]


@pytest.mark.parametrize("state", list(State))
def test_nobody_else_gets_an_address_before_its_time_is_over_on_every_clock(state: State) -> None:
    until = END + LEASE_S
    ours, leases, _ = book(entry(lease(Y, state=state), 3, until))
    for now, free in ((NOW, False), (END + 1.0, False), (until + SKEW_S - 1.0, False), (until + SKEW_S + 1.0, True)):
        assert leases.is_free(A1, X, now) == free
    now = until + SKEW_S + 1
    write = asked(ours.put(lease(X, expires=now + 60), 1, now))
    assert write.replaces == "3.uid"


def test_what_one_server_may_promise_ends_before_another_gives_it_away_though_their_clocks_differ() -> None:
    """Each clock may be 25 s off the API's, and leases follow a clock that was set by 30 s at once only."""
    theirs, leases, _ = book(entry(lease(X)))
    cut_off, _, _ = book(entry(lease(X)))
    cut_off.away_now()
    latest = cut_off.latest(int(A1), X, NOW)
    assert latest is not None
    assert leases.others is theirs
    assert theirs.free_at(int(A1), Y, NOW) >= latest + 2 * (25 + 30) + LATE_S


def test_a_lease_that_never_ends_is_nobody_elses() -> None:
    ours, leases, _ = book(entry(lease(Y, expires=NEVER)))
    assert not leases.is_free(A1, X, NOW + 10**9)
    assert asked(ours.put(lease(X, A2, NEVER), 1, NOW)).entry.until == NEVER


def test_a_short_lease_keeps_its_address_for_an_hour_more() -> None:
    ours, _, _ = book()
    short = lease(expires=int(NOW) + 300)
    assert asked(ours.put(short, 1, NOW)).entry.until == short.expires + LEAD_S


def test_the_time_of_an_address_never_gets_shorter_for_its_client() -> None:
    ours, _, _ = book(entry(lease(), until=END + 50_000))
    for changed in (lease(expires=END + 60), lease(expires=int(NOW), state=State.RELEASED)):
        write = asked(ours.put(changed, 1, NOW))
        assert write.entry.until == END + 50_000
        ours.answered(write, Done(replace(write.entry, version="9.uid")), NOW)


def test_an_address_of_no_pool_is_not_shared() -> None:
    ours, _, _ = book()
    elsewhere = lease(address=ELSEWHERE)
    assert ours.put(elsewhere, 1, NOW) == [Go(1, elsewhere)]
    assert ours.latest(int(ELSEWHERE), X, NOW) is None


def test_who_repeats_himself_waits_for_the_same_answer() -> None:
    ours, leases, _ = book()
    leases.remember(lease())
    write = asked(ours.put(lease(), 1, NOW))
    assert ours.put(lease(), 2, NOW + 4) == []
    assert ours.answered(write, Done(entry(lease())), NOW + 4) == [Go(1, lease()), Go(2, lease())]


def test_what_comes_while_the_api_is_asked_is_asked_after_it() -> None:
    ours, leases, _ = book()
    write, later = asked(ours.put(lease(), 1, NOW)), lease(expires=END + 60)
    leases.remember(later)
    assert ours.put(later, 2, NOW) == []
    [go, ask] = ours.answered(write, Done(entry(lease(), 5)), NOW)
    assert go == Go(1, lease())
    assert ask == Ask(Write(Entry(later, later.expires + LEASE_S + 60), "5.uid"))


def test_who_waits_is_not_forgotten_when_the_copy_was_old_and_he_has_asked_for_more_meanwhile() -> None:
    ours, leases, _ = book(entry(lease(), 4))
    first, second = lease(expires=END + 600), lease(expires=END + 900)
    write = asked(ours.put(first, 1, NOW))
    leases.remember(second)
    assert ours.put(second, 2, NOW) == []
    again = asked(ours.answered(write, Refused(entry(lease(), 5)), NOW))
    assert again == Write(Entry(first, first.expires + LEASE_S + 600), "5.uid")
    [go, ask] = ours.answered(again, Done(entry(first, 6)), NOW)
    assert go == Go(1, first)
    assert isinstance(ask, Ask)
    assert isinstance(ask.wish, Write)
    assert ours.answered(ask.wish, Done(entry(second, 7)), NOW) == [Go(2, second)]


@pytest.mark.parametrize("last", [lease(expires=END + 60), lease(expires=int(NOW), state=State.RELEASED)])
def test_nobody_is_told_of_more_than_he_asked_for_last(last: Lease) -> None:
    """What is written is the last; an answer that tells of a lease that never ends would outlive it."""
    ours, _, _ = book()
    write = asked(ours.put(lease(), 1, NOW))
    assert ours.put(lease(expires=NEVER), 2, NOW) == []
    assert ours.put(last, 3, NOW) == [Deny(2, Why.CHANGED)]
    acts = ours.answered(write, Done(entry(lease(), 5)), NOW)
    assert Go(2, lease(expires=NEVER)) not in acts
    assert Go(1, lease()) in acts


def test_an_answer_that_waited_too_long_does_not_leave() -> None:
    ours, _, _ = book()
    write = asked(ours.put(lease(), 1, NOW))
    assert ours.answered(write, Done(entry(lease())), NOW + LATE_S + 1) == [Deny(1, Why.AWAY), Keep(lease())]


def test_while_the_api_is_away_who_is_known_goes_on_within_his_time() -> None:
    ours, leases, _ = book(entry(lease(), until=END + LEASE_S))
    ours.away_now()
    assert ours.latest(int(A1), X, NOW) == END + LEASE_S
    renewed = lease(expires=END + LEASE_S)
    assert ours.put(renewed, 1, NOW) == [Go(1, renewed)]
    assert ours.put(lease(expires=END + LEASE_S + 1), 2, NOW) == [Deny(2, Why.AWAY)]
    assert ours.untold == 1
    assert not leases.is_free(A1, X, END + LEASE_S + 1)


@pytest.mark.parametrize(("by_s", "moves"), [(-3600, True), (3600, False)])
def test_a_clock_that_is_set_back_lets_nobody_be_told_more_than_the_api_has(by_s: int, moves: bool) -> None:
    """It may have been right before. Set forward, it may be right now."""
    ours, leases, _ = book(entry(lease()), entry(lease(Y, A2, expires=NEVER)))
    before = ours.latest(int(A1), X, NOW), ours.free_at(int(A1), X, NOW)
    assert before == (None, float("-inf"))
    leases.shift(by_s)
    assert ours.away, "what the API has is to be listed again"
    assert ours.latest(int(A1), X, NOW) == END + LEASE_S + (by_s if moves else 0)
    assert ours.latest(int(A2), Y, NOW) == NEVER
    listed(ours, entry(lease()))
    assert not ours.away
    ours.away_now()
    assert ours.latest(int(A1), X, NOW) == END + LEASE_S


def test_what_was_told_here_and_the_api_has_for_longer_is_not_waited_for_to_be_written_up() -> None:
    ours, leases, _ = book(entry(lease()))
    leases.shift(-3600)
    leases.shift(3599)
    assert ours.put(lease(expires=END - 1), 1, NOW) == [Go(1, lease(expires=END - 1))]
    assert ours.untold == 1
    acts = [*listed(ours, entry(lease())), *ours.expire(NOW)]
    assert Keep(lease()) in acts
    assert ours.untold == 0


def test_while_the_api_is_away_nobody_else_gets_anything() -> None:
    ours, leases, _ = book(entry(lease(Y, expires=int(NOW) - 10**6)))
    ours.away_now()
    assert not leases.is_free(A1, X, NOW)
    assert not leases.is_free(A2, X, NOW)
    assert ours.put(lease(X, A2), 1, NOW) == [Deny(1, Why.AWAY)]


def test_after_a_restart_without_the_api_leases_on_disk_count_and_get_no_longer() -> None:
    leases = Leases([lease()], NOW, LEASE_S)
    ours = Book(leases, lambda _: True)
    leases.others = ours
    assert ours.away
    assert leases.is_free(A1, X, NOW)
    assert ours.latest(int(A1), X, NOW) == END
    assert ours.put(lease(expires=END), 1, NOW) == [Go(1, lease(expires=END))]
    assert ours.put(lease(expires=END + 1), 2, NOW) == [Deny(2, Why.AWAY)]


def test_an_answer_that_does_not_come_is_the_end_of_asking_until_all_is_listed_again() -> None:
    ours, leases, _ = book(entry(lease()))
    leases.remember(lease(expires=END + 600))
    write = asked(ours.put(lease(expires=END + 600), 1, NOW))
    stranger = asked(ours.put(lease(Y, A2), 2, NOW))
    assert ours.answered(write, Unknown("cut"), NOW) == [Go(1, lease(expires=END + 600))]
    assert ours.answered(stranger, Unknown("cut"), NOW) == [Deny(2, Why.AWAY)]
    assert ours.away
    assert asked(listed(ours, entry(lease(), 9))) == Write(
        Entry(lease(expires=END + 600), END + 1200 + LEASE_S), "9.uid"
    )


def test_what_was_renewed_meanwhile_is_written_up_when_the_api_is_back() -> None:
    ours, leases, _ = book(entry(lease()))
    ours.away_now()
    leases.remember(renewed := lease(expires=END + 600))
    ours.put(renewed, 1, NOW)
    write = asked(listed(ours, entry(lease())))
    assert write.entry.lease == renewed
    assert ours.answered(write, Done(replace(write.entry, version="2.uid")), NOW) == []
    assert not ours.untold


def test_what_another_server_renewed_for_longer_needs_no_writing_up() -> None:
    ours, leases, _ = book(entry(lease(), 4))
    ours.away_now()
    leases.remember(lease(expires=END + 600))
    assert ours.put(leases.record(A1) or lease(), 1, NOW + 600) == [Go(1, lease(expires=END + 600))]
    theirs = lease(expires=END + 601)
    assert listed(ours, entry(theirs, 5), now=NOW + 601) == [Keep(theirs)]
    assert leases.record(A1) == theirs
    assert not ours.untold


def test_a_release_and_a_decline_are_written_up_too() -> None:
    ours, leases, _ = book(entry(lease()), entry(lease(Y, A2)))
    ours.away_now()
    released = lease(expires=int(NOW), state=State.RELEASED)
    declined = lease(Y, A2, END, State.DECLINED)
    for ticket, changed in enumerate((released, declined)):
        leases.remember(changed)
        assert ours.put(changed, ticket, NOW) == [Go(ticket, changed)]
    wishes = [act.wish for act in listed(ours, entry(lease()), entry(lease(Y, A2))) if isinstance(act, Ask)]
    assert [wish.entry.lease for wish in wishes if isinstance(wish, Write)] == [released, declined]


def test_a_client_that_was_told_and_whose_address_is_another_ones_is_told_of() -> None:
    ours, leases, _ = book(entry(lease()))
    ours.away_now()
    leases.remember(renewed := lease(expires=END + 600))
    ours.put(renewed, 1, NOW)
    theirs = entry(lease(Y), 9)
    assert listed(ours, theirs) == [Lost(renewed, theirs.lease), Keep(theirs.lease)]
    assert ours.lost == 1
    assert leases.bound(A1, NOW) == theirs.lease


def test_a_release_that_was_overtaken_by_a_renewal_is_dropped() -> None:
    ours, leases, _ = book(entry(lease()))
    leases.remember(released := lease(expires=int(NOW), state=State.RELEASED))
    write = asked(ours.put(released, 1, NOW))
    renewed = entry(lease(expires=END + 600), 2)
    assert ours.answered(write, Refused(renewed), NOW) == [Deny(1, Why.TAKEN), Keep(renewed.lease)]
    assert leases.bound(A1, NOW) == renewed.lease


def test_a_client_of_another_server_is_known_here() -> None:
    ours, leases, _ = book()
    assert ours.changed(entry(lease(), 2), NOW) == [Keep(lease())]
    assert leases.bound_to(X, plan(farm()).networks[0].pools, NOW) == lease()


def test_news_that_is_older_than_what_is_known_changes_nothing() -> None:
    ours, leases, _ = book(entry(lease(), 10))
    assert ours.changed(entry(lease(Y), 9), NOW) == []
    assert ours.gone(A1, "9.uid", NOW) == []
    assert leases.bound(A1, NOW) == lease()
    assert len(ours) == 1


def test_what_somebody_deleted_is_made_again_while_it_holds() -> None:
    ours, _, _ = book(entry(lease(), 10))
    assert ours.gone(A1, "10.uid", NOW) == []
    assert asked(ours.expire(NOW)) == Write(Entry(lease(), END + LEASE_S), "")


def test_an_api_that_was_put_back_to_an_earlier_state_is_believed_in_what_it_answers() -> None:
    """Its versions are lower then; who stood by the higher one was refused for ever."""
    ours, leases, _ = book(entry(lease(), 900))
    leases.remember(renewed := lease(expires=END + 600))
    write = asked(ours.put(renewed, 1, NOW))
    assert write.replaces == "900.uid"
    again = asked(ours.answered(write, Refused(entry(lease(), 40)), NOW))
    assert again.replaces == "40.uid"
    assert ours.answered(again, Done(entry(renewed, 41)), NOW) == [Go(1, renewed)]
    later = lease(expires=END + 1200)
    last = asked(ours.put(later, 2, NOW))
    assert last.replaces == "41.uid"


def test_what_came_while_it_was_asked_counts_more_than_its_answer() -> None:
    ours, leases, _ = book(entry(lease(), 4))
    leases.remember(renewed := lease(expires=END + 600))
    write = asked(ours.put(renewed, 1, NOW))
    ours.changed(entry(lease(Y), 9), NOW)
    acts = ours.answered(write, Refused(entry(lease(), 6)), NOW)
    assert acts == [Deny(1, Why.TAKEN), Keep(lease(Y))]
    assert leases.bound(A1, NOW) == lease(Y)


@pytest.mark.parametrize("deleted", ["while we look", "while we are away"])
def test_an_object_that_nobody_can_read_keeps_its_address_until_it_is_deleted(deleted: str) -> None:
    """It was made again by whoever had seen it, so that nobody ever got the address again."""
    odd = entry(lease(SOMEBODY, expires=NEVER, state=State.DECLINED), 7)
    ours, leases, acts = book(odd)
    assert acts == [Keep(odd.lease)]
    assert not leases.is_free(A1, X, NOW + 10**9)
    acts = ours.gone(A1, "8.uid", NOW) if deleted == "while we look" else listed(ours)
    assert acts == [Keep(lease(SOMEBODY, expires=int(NOW), state=State.RELEASED))]
    assert ours.expire(NOW) == []
    assert leases.is_free(A1, X, NOW)
    assert asked(ours.put(lease(), 1, NOW)).replaces == ""


def test_leases_that_the_api_does_not_know_are_written_at_the_start() -> None:
    _, _, acts = book(records=(lease(), lease(Y, A2, int(NOW) - 5)))
    assert asked(acts).entry.lease == lease()


def test_what_is_of_no_use_any_more_is_deleted_one_at_a_time() -> None:
    old = entry(lease(expires=int(NOW) - 10**6), 3, int(NOW) - KEPT_S - 1)
    younger = entry(lease(Y, A2, expires=int(NOW) - 10**5), 4, int(NOW) - KEPT_S + 60)
    ours, _, acts = book(old, younger)
    rounds = (acts, *(ours.expire(NOW) for _ in range(5)))
    assert {act.wish for each in rounds for act in each if isinstance(act, Ask)} == {Remove(A1, "3.uid")}
    ours.answered(Remove(A1, "3.uid"), Done(None), NOW)
    assert len(ours) == 1
    assert asked(ours.put(lease(Y), 1, NOW)).replaces == ""


def test_what_is_of_no_use_is_found_wherever_it_is_among_many() -> None:
    """One more entry than are looked at in a round was passed over in every round."""
    old = [entry(lease(address=A1 + n, expires=int(NOW) + 600), n + 1) for n in range(404)]
    for n in (200, 401):
        old[n] = entry(lease(address=A1 + n, expires=int(NOW) - 10**6), n + 1, int(NOW) - KEPT_S - 1)
    ours, _, acts = book(*old)
    rounds = (acts, *(ours.expire(NOW) for _ in range(10)))
    assert {act.wish.address for each in rounds for act in each if isinstance(act, Ask)} == {A1 + 200, A1 + 401}


def farm() -> Farm:
    subnet = {"subnet": "10.77.0.0/24", "pool": f"{A1}-{A2}"}
    dhcp: dict[str, Any] = {"probe": False, "lease_s": LEASE_S, "longest_lease_s": "infinite", "subnets": [subnet]}
    return Farm.model_validate({"dhcp": dhcp})


def serving(*entries: Entry) -> tuple[Server, Book]:
    server = Server(plan(farm()), [], NOW)
    shared = Book(server.leases, lambda address: address in (A1, A2))
    server.leases.others = shared
    listed(shared, *entries)
    return server, shared


def say(server: Server, kind: MessageType, mac: str = X, **fields: Any) -> list[Action]:
    return server.receive(message(kind, mac, **fields), Arrival(OURS), NOW)


def sent(actions: list[Action]) -> MessageType | None:
    kinds = [action.message.options[Option.DHCP_MESSAGE_TYPE][0] for action in actions if isinstance(action, Send)]
    return MessageType(kinds[0]) if kinds else None


def ignored(actions: list[Action]) -> list[Reason]:
    return [action.reason for action in actions if isinstance(action, Ignored)]


def test_a_client_that_renews_at_the_other_server_keeps_its_address() -> None:
    server, _ = serving(entry(lease()))
    assert sent(say(server, MessageType.DHCPREQUEST, ciaddr=A1)) is MessageType.DHCPACK
    assert sent(say(server, MessageType.DHCPREQUEST, options={50: A1.packed})) is MessageType.DHCPACK
    assert sent(say(server, MessageType.DHCPREQUEST, Y, ciaddr=A1)) is MessageType.DHCPNAK


def test_a_client_that_has_two_addresses_since_a_server_failed_in_the_middle_keeps_the_one_that_it_uses() -> None:
    for uses in (A1, A2):
        server, _ = serving(entry(lease()), entry(lease(X, A2)))
        assert sent(say(server, MessageType.DHCPREQUEST, ciaddr=uses)) is MessageType.DHCPACK


def test_an_offer_is_forgotten_when_the_client_chooses_the_other_server() -> None:
    server, _ = serving()
    say(server, MessageType.DHCPDISCOVER)
    assert server.leases.offered(X, NOW) is not None
    say(server, MessageType.DHCPREQUEST, options={50: A1.packed, 54: THEIRS.packed})
    assert server.leases.offered(X, NOW) is None


def test_an_ack_of_a_shared_lease_knows_what_to_say_if_somebody_was_quicker() -> None:
    server, _ = serving(entry(lease()))
    [store] = [a for a in say(server, MessageType.DHCPREQUEST, ciaddr=A1) if isinstance(a, Store)]
    assert sent(list(store.taken)) is MessageType.DHCPNAK
    assert not store.unsure


@pytest.mark.parametrize("ask", [
    pytest.param({}, id="discover"),
    pytest.param({"ciaddr": A1}, id="renewing"),
    pytest.param({"options": {50: A1.packed}}, id="init-reboot"),
])  # fmt: skip
def test_while_the_api_is_away_a_stranger_hears_nothing_not_even_a_refusal(ask: dict[str, Any]) -> None:
    server, shared = serving()
    shared.away_now()
    kind = MessageType.DHCPREQUEST if ask else MessageType.DHCPDISCOVER
    actions = say(server, kind, **ask)
    assert sent(actions) is None
    assert ignored(actions) == [Reason.AWAY]


def test_while_the_api_is_away_who_has_nothing_yet_is_sent_to_another_server() -> None:
    server, shared = serving()
    say(server, MessageType.DHCPDISCOVER)
    offered = server.leases.offered(X, NOW)
    assert offered is not None
    chosen = {50: offered.packed, 54: OURS.packed}
    [store] = [a for a in say(server, MessageType.DHCPREQUEST, options=chosen) if isinstance(a, Store)]
    assert sent(list(store.unsure)) is MessageType.DHCPNAK
    shared.away_now()
    assert sent(say(server, MessageType.DHCPREQUEST, options=chosen)) is MessageType.DHCPNAK


def test_while_the_api_is_away_an_address_that_is_somebody_elses_is_refused() -> None:
    server, shared = serving(entry(lease(Y)))
    shared.away_now()
    assert sent(say(server, MessageType.DHCPREQUEST, ciaddr=A1)) is MessageType.DHCPNAK


@pytest.mark.parametrize("wish", [None, INFINITE_S])
def test_while_the_api_is_away_a_lease_ends_before_somebody_else_may_have_the_address(wish: int | None) -> None:
    server, shared = serving(entry(lease(expires=int(NOW) + 60), until=int(NOW) + 900))
    shared.away_now()
    options = {} if wish is None else {51: wish.to_bytes(4, "big")}
    actions = say(server, MessageType.DHCPREQUEST, ciaddr=A1, options=options)
    [told] = [a.message.options[Option.IP_ADDRESS_LEASE_TIME] for a in actions if isinstance(a, Send)]
    assert 890 <= int.from_bytes(told, "big") < 900


def test_the_short_way_leaves_shared_leases_to_the_engine() -> None:
    server, shared = serving()
    fast = FastPath(server)
    arrival = Arrival(OURS)
    for mac in (X, Y, X, Y):
        fast.receive(message(MessageType.DHCPDISCOVER, mac).encode(), arrival, NOW)
    assert not fast.hits
    assert not shared.away
