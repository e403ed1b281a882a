import pytest

from pxeboot.selftest import firewall
from pxeboot.selftest.ports import Wanted

DHCP, TFTP, HTTP, NBD = Wanted("UDP", 67, "DHCP"), Wanted("UDP", 69, "TFTP"), Wanted("TCP", 80, "HTTP"), Wanted(
    "TCP", 10809, "NBD")  # fmt: skip
PAGE = Wanted("TCP", 8067, "the web page", "0.0.0.0", of_machines=False)
EVERY = [DHCP, TFTP, HTTP, NBD, PAGE]
Json = dict[str, object]
TABLE = {"family": "inet", "table": "filter"}


def chain(name: str = "input", policy: str = "accept", hook: str | None = "input", family: str = "inet") -> Json:
    base = {"type": "filter", "hook": hook, "prio": 0, "policy": policy} if hook else {}
    return {"chain": {"family": family, "table": "filter", "name": name, **base}}


def rule(*expressions: object, chain: str = "input") -> Json:
    return {"rule": {**TABLE, "chain": chain, "expr": [*expressions]}}


def match(left: object, right: object, op: str = "==") -> Json:
    return {"match": {"op": op, "left": left, "right": right}}


def dport(protocol: str, right: object, op: str = "==") -> Json:
    return match({"payload": {"protocol": protocol, "field": "dport"}}, right, op)


IN_BY = {"meta": {"key": "iifname"}}
STATE = {"ct": {"key": "state"}}
FROM = {"payload": {"protocol": "ip", "field": "saddr"}}
DROP, ACCEPT, RETURN = {"drop": None}, {"accept": None}, {"return": None}
REJECT = {"reject": {"type": "tcp reset"}}
OLD = {"vmap": {"key": STATE, "data": {"set": [["established", ACCEPT], ["related", ACCEPT], ["invalid", DROP]]}}}
LO = rule(match(IN_BY, "lo"), ACCEPT)


@pytest.mark.parametrize(
    ("ruleset", "errors", "warnings"),
    [
        pytest.param([], [], [], id="no rules"),
        pytest.param([chain()], [], [], id="a chain that accepts"),
        pytest.param([chain(policy="drop")], [67, 69, 80, 10809], [], id="a policy"),
        pytest.param([chain(policy="drop"), LO, rule(OLD)], [67, 69, 80, 10809], [], id="loopback, old connections"),
        pytest.param([chain(policy="drop"), rule(match(IN_BY, "eth*"), ACCEPT)], [], [], id="interfaces by pattern"),
        pytest.param([chain(), rule(dport("tcp", 80), DROP)], [80], [], id="one port"),
        pytest.param([chain(), rule(dport("tcp", 80), REJECT)], [80], [], id="refused aloud"),
        pytest.param([chain(), rule(dport("udp", 80), DROP)], [], [], id="another protocol"),
        pytest.param([chain(), rule(dport("tcp", {"set": [22, 80, {"range": [10000, 11000]}]}), DROP)], [80, 10809],
                     [], id="a set with a range"),
        pytest.param([chain(policy="drop"), rule(dport("udp", {"range": [60, 70]}), ACCEPT)], [80, 10809], [],
                     id="what is not let in"),
        pytest.param([{"set": {**TABLE, "name": "ours", "elem": [80, 10809]}}, chain(policy="drop"),
                      rule(dport("tcp", "@ours"), ACCEPT)], [67, 69], [], id="a named set"),
        pytest.param([chain(), rule(match(FROM, {"prefix": {"addr": "10.0.0.0", "len": 8}}), DROP)], [],
                     [67, 69, 80, 10809], id="some senders"),
        pytest.param([chain(policy="drop"), rule(match(FROM, "10.0.0.1"), ACCEPT)], [], [67, 69, 80, 10809],
                     id="some senders are let in"),
        pytest.param([chain(policy="drop"), rule({"jump": {"target": "more"}}), chain("more", hook=None),
                      rule(dport("tcp", 80), ACCEPT, chain="more"), rule(RETURN, chain="more")], [67, 69, 10809], [],
                     id="a chain that is called"),
        pytest.param([chain(), rule({"goto": {"target": "none"}}), chain("none", hook=None), rule(DROP, chain="none")],
                     [67, 69, 80, 10809], [], id="a chain that is gone to"),
        pytest.param([chain(), rule({"jump": {"target": "input"}})], [], [], id="a chain that calls itself"),
        pytest.param([chain(), rule({"xt": {"type": "match", "name": "hashlimit"}}, DROP)], [], [67, 69, 80, 10809],
                     id="a match of iptables"),
        pytest.param([chain(policy="drop"), rule(match({"concat": [{"meta": {"key": "l4proto"}}, {"payload": {
            "protocol": "th", "field": "dport"}}]}, {"set": [{"concat": ["udp", 69]}, {"concat": ["tcp", 67]}]}),
            ACCEPT)], [67, 80, 10809], [], id="protocols with ports"),
        pytest.param([chain(family="ip6", policy="drop")], [], [], id="IPv6"),
        pytest.param([chain(hook="forward", policy="drop")], [], [], id="what goes through"),
        pytest.param([chain(policy="drop"), rule(match(STATE, ["established", "related"], "in"), ACCEPT),
                      rule({"counter": {"packets": 1}}, ACCEPT)], [], [], id="all after old connections"),
        pytest.param([chain("a"), chain("b", "drop"), rule(dport("tcp", 80), ACCEPT, chain="a")],
                     [67, 69, 80, 10809], [], id="every chain has to accept"),
        pytest.param([{"metainfo": {"version": "1"}}, {"rule": "damaged"}, {"chain": {"family": "inet"}}], [], [],
                     id="what nobody understands"),
    ],
)  # fmt: skip
def test_what_the_rules_do_to_a_machines_first_packet(
    ruleset: list[Json], errors: list[int], warnings: list[int]
) -> None:
    found = firewall.look(EVERY, ["eth1"], ruleset)
    said = {level: sorted(port.port for finding in found if finding.level == level for port in EVERY
                          if f"{port} (" in finding.what) for level in ("error", "warning")}  # fmt: skip
    assert said == {"error": errors, "warning": warnings}


def test_the_finding_says_where_the_rule_is_and_what_lets_machines_in() -> None:
    (finding,) = firewall.look([TFTP, HTTP], ["eth1"], [chain(policy="drop")])
    assert finding.what == ("this host's firewall (policy drop of chain inet filter input) drops what machines send to"
                            " UDP port 69 (TFTP), TCP port 80 (HTTP) on eth1")  # fmt: skip
    assert "nft insert rule inet filter input iifname eth1 meta l4proto . th dport { udp . 69, tcp . 80 }" in (
        finding.remedy
    )


def test_rules_that_cannot_be_listed_are_a_note() -> None:
    (finding,) = firewall.look(EVERY, ["eth1"], firewall.MAY_NOT)
    assert (finding.level, finding.about) == ("note", "firewall")
    assert "CAP_NET_ADMIN" in finding.what
