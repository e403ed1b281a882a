"""What takes a while to find out about a farm of thousands, as samples: read in a thread, from a copy."""

import time
from collections import Counter
from collections.abc import Sequence

from config.events import Stage
from config.model import Farm
from dhcp.leases import Lease, State
from dhcp.plan import Plan
from pxeboot import stuck
from pxeboot.api.dhcp import pools_json
from pxeboot.metrics.sample import Sample, Samples
from pxeboot.timeline import Machine

MOST_POOLS = 100
"""Pools that have a sample of their own; a farm with more of them has the fullest."""

_BREATH = 100
"""Machines that are judged before others may have the interpreter: 2 ms. 10,000 of them take 0.2 s."""


def machines(heard: Sequence[Machine], farm: Farm, now_s: float) -> Samples:
    """Yield how many of the machines do how, and are where. `now_s` is in seconds since 1970."""
    clusters = {pool.name: farm.clusters.get(pool.cluster or "") for pool in farm.pools}
    listed = {node.name for pool in farm.pools for node in pool.nodes}
    states: Counter[stuck.State] = Counter()
    stages: Counter[Stage] = Counter()
    for number, machine in enumerate(heard):
        if not number % _BREATH:
            time.sleep(0.0001)
        goal = stuck.goal_of(clusters.get(machine.pool))
        states[stuck.judge(machine, goal, now_s, listed=machine.name in listed).state] += 1
        stage = machine.boots[-1].stage if machine.boots else None
        if stage is not None:
            stages[stage] += 1
    for state in stuck.State:
        yield Sample("pxeboot_machines", states[state], (state.value,))
    for stage in Stage:
        yield Sample("pxeboot_machines_by_stage", stages[stage], (stage.value,))


def addresses(plan: Plan, records: Sequence[Lease], now: float) -> Samples:
    """Yield how full the pools are, and how many records there are. `now` is the leases' clock."""
    pools = [(f"{pool['first']}-{pool['last']}", pool) for pool in pools_json(plan, records, now)]
    fullest = sorted(pools, key=lambda named: _share(named[1]["used"], named[1]["size"]), reverse=True)[:MOST_POOLS]
    for name, pool in sorted(fullest, key=lambda named: named[0]):
        yield Sample("pxeboot_dhcp_pool_size", _whole(pool["size"]), (name,))
        yield Sample("pxeboot_dhcp_pool_used", _whole(pool["used"]), (name,))
    states = Counter(record.state for record in records if record.holds(now))
    for state in State:
        yield Sample("pxeboot_dhcp_leases", states[state], (state.value,))


def _share(used: object, size: object) -> float:
    return _whole(used) / max(1, _whole(size))


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
