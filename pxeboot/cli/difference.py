"""What `pxeboot check --diff` prints: which machines get something else at their next boot."""

import http.client
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from config.model import Farm
from pxeboot.cli import asking
from pxeboot.reloading.compare import Differences, Group, compare
from pxeboot.reloading.fixed import kept

SHOWN = 8
"""So many machines of a group are named."""
PATIENCE_S = 30.0
"""The daemon has to write 10,000 machines."""


def show(farm: Farm, against: Path | None, control: Path, *, as_json: bool) -> None:
    """Print what `farm` changes for machines, compared with a file, or with what the daemon at `control` serves.

    Says what is wrong in that file, or with the daemon, and exits with status 1.
    """
    needs_restart: tuple[str, ...] = ()
    if against is not None:
        found, what = compare(asking.loaded(against), farm), str(against)
    else:
        served, nbdkit = running(control)
        wanted, needs_restart = kept(served, farm, nbdkit=nbdkit)
        found, what = compare(served, wanted), f"what is served at {control}"
    if as_json:
        click.echo(json.dumps({"mistakes": [], **found.as_json(), "needs_restart": needs_restart}, indent=2))
        return
    click.echo("\n".join(lines(found, needs_restart, what)))


def running(control: Path) -> tuple[Farm, bool]:
    """Return the farm that a daemon serves, without its secrets, and whether it runs nbdkit."""
    try:
        code, answer = asking.ask(control, "/v1/farm", patience_s=PATIENCE_S)
        if code == 200:
            return Farm.model_validate(answer["farm"]), bool(answer["nbdkit"])
        problem = f"{control} does not say what it serves (status {code})"
    except (OSError, http.client.HTTPException, ValueError) as error:
        problem = asking.no_answer(control, error)
    problem += "" if problem.endswith("?") else "."
    click.echo(f"pxeboot check: {problem} --against FILE compares with a file", err=True)
    sys.exit(1)


def lines(found: Differences, needs_restart: Sequence[str], against: str) -> Iterator[str]:
    """Yield the lines. `against` says what the file is compared with."""
    if not found.any and not needs_restart:
        yield f"nothing changes: it says the same as {against}"
        return
    machines = found.machines
    yield f"at their next boot {machines or 'no'} machine{'' if machines == 1 else 's'} will get something else"
    for group in found.changed:
        yield from _group(group)
    for names, what in ((found.added, "new"), (found.gone, "not listed any more")):
        if names:
            yield f"{_count(len(names))} {'is' if len(names) == 1 else 'are'} {what}:"
            yield f"    {named(names)}"
    for subnet, changes in found.unlisted:
        yield f"machines of {subnet} that are not listed:"
        yield from (f"    {change}" for change in changes)
    if found.settings:
        yield "settings that no boot depends on:"
        yield from (f"    {change}" for change in found.settings)
    yield from (f"needs a restart: {line}" for line in needs_restart)


def _group(group: Group) -> Iterator[str]:
    yield f"{_count(len(group.machines))}:"
    yield from (f"    {change}" for change in group.changes)
    if not group.each:
        yield f"    {named(group.machines)}"
        return
    for name in group.machines[:SHOWN]:
        yield f"    {name}: {'; '.join(map(str, group.each[name]))}"
    if len(group.machines) > SHOWN:
        yield f"    and {len(group.machines) - SHOWN} more"


def _count(number: int) -> str:
    return f"{number} machine{'' if number == 1 else 's'}"


def named(names: Sequence[str]) -> str:
    """Return some names.

    >>> named(["m1", "m2"]), named([f"m{n}" for n in range(1, 21)])
    ('m1, m2', 'm1, m2, m3, m4, m5, m6, m7, m8 and 12 more')
    """
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
