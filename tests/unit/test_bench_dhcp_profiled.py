"""Where the time of a profiled run went."""

import cProfile

from bench.dhcp_profiled import Function, functions, render


def test_a_profile_names_functions_with_their_place_and_leaves_out_itself_waiting() -> None:
    def work() -> int:
        return len([1, 2, 3])

    profile = cProfile.Profile()
    profile.enable()
    for _ in range(10):
        work()
    profile.disable()
    found = {one.name.split()[0].rpartition(".")[2]: one for one in functions(profile)}
    assert found["work"].calls == 10
    assert "unit/test_bench_dhcp_profiled.py:" in found["work"].name
    assert found["work"].own_s <= found["work"].total_s


def test_the_table_tells_what_one_exchange_costs() -> None:
    found = [Function("small", 10, 0.001, 0.001), Function("large", 20, 0.010, 0.011), Function("none", 0, 0, 0)]
    lines = render(found, 10, 2).split("\n")
    assert [line.split() for line in lines[1:]] == [
        ["2.0", "1000.0", "1100.0", "large"],
        ["1.0", "100.0", "100.0", "small"],
        ["1100.0", "all", "functions", "together"],
    ]
