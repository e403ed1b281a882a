"""`pxeboot check`: is this configuration right?"""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pxeboot.cli import asking

if TYPE_CHECKING:
    from config.model import Farm


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="A list with an object for each mistake; [] if there is none.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file, for editors, and do nothing else.")
@click.option("--diff", is_flag=True, help="Say which machines will get something else at their next boot, and what.")
@click.option("--against", type=asking.ANY_PATH,
              help="With --diff: compare with this file.  [default: what the daemon serves]")  # fmt: skip
@click.option("--control", type=asking.ANY_PATH,
              help="With --diff: the daemon's control socket.  [default: the one in FILE]")  # fmt: skip
@click.option("--here", is_flag=True, help="Look at this host too: who has the ports, firewall, images, clock, disk.")
def command(
    file: Path | None, as_json: bool, schema: bool, diff: bool, against: Path | None, control: Path | None, here: bool
) -> None:
    """Check the configuration FILE and say everything that is wrong in it.

    Without FILE: /etc/pxeboot/farm.yaml, if there. Each mistake is a line FILE:LINE:COLUMN: MESSAGE on standard error.
    Exit status: 0 if all is right, 1 if not; that machines will get something else is no mistake. Secrets are
    compared, and never shown.
    """
    if (against or control) and not diff:
        raise click.UsageError("--against and --control go with --diff")
    if against and control:
        raise click.UsageError("give one of --against and --control")
    if schema:
        from config.schema import text

        click.echo(text(), nl=False)
        return
    file = asking.farm_file(file)
    if file is None:
        raise click.UsageError(f"which FILE? There is no {asking.FARM}")
    from config.advice import advice
    from config.load import ConfigErrors, load
    from pxeboot.bootfiles.root import not_there
    from pxeboot.exports.writable import writable_without_disk
    from pxeboot.reloading.beside import lts_mistakes, page_problem, tls_mistakes
    from pxeboot.selftest.files import certificates
    from pxeboot.web.exposure import notes

    summary, missing, mistakes = "", None, []
    try:
        farm = load(file)
        missing = not_there(farm.server.files)
        mistakes = [*lts_mistakes(farm), *tls_mistakes(file, farm)]
        summary = f"{file} is right: {counted(farm)}"
    except ConfigErrors as errors:
        mistakes = [*errors.mistakes]
    if diff and not mistakes:
        from pxeboot.cli import difference

        difference.show(farm, against, control or farm.server.control, as_json=as_json)
        return
    if here and not mistakes:
        from pxeboot.cli import here as this_host

        this_host.show(farm, summary, as_json=as_json)
    if as_json:
        click.echo(json.dumps([asdict(mistake) for mistake in mistakes], indent=2))
    elif mistakes:
        click.echo("\n".join(map(str, mistakes)), err=True)
    else:
        click.echo(summary)
        if missing is not None:
            click.echo(f"note: server.files: {missing}", err=True)  # no mistake: it may come yet
        page = page_problem(farm)
        if page is not None:
            click.echo(f"note: {page}", err=True)
        ended = [str(one) for one in certificates(farm, time.time()) if page is None or one.about != "web.tls"]
        for line in (*advice(farm), *zone_notes(farm), *ended, *writable_without_disk(farm), *notes(farm.web)):
            click.echo(f"note: {line}", err=True)
    sys.exit(1 if mistakes else 0)


def zone_notes(farm: "Farm", zones: Path = Path("/usr/share/zoneinfo")) -> list[str]:
    """Return whether this host, which has a list of them, knows the farm's time zone. Machines may know another."""
    zone = farm.node.timezone
    if not (zones / "Etc/UTC").exists() or (zones / zone).is_file():
        return []
    from config.mistakes import suggestion

    names = {path.relative_to(zones).as_posix().lower(): path for path in zones.glob("[A-Z]*/**/*")}
    near = suggestion(zone, names)
    for lower, path in names.items():
        near = near.replace(f"'{lower}'", f"'{path.relative_to(zones)}'")
    return [f"node.timezone: this host knows no zone {zone!r}, and a machine that knows none either has UTC{near}"]


def counted(farm: "Farm") -> str:
    """Return what a farm consists of, in one line."""
    numbers = {
        "machine": sum(len(pool.nodes) for pool in farm.pools),
        "pool": len(farm.pools),
        "image": len(farm.images),
        "subnet": len(farm.dhcp.subnets),
        "cluster": len(farm.clusters),
        "tag": len(farm.tags),
    }
    return ", ".join(f"{number} {word}{'' if number == 1 else 's'}" for word, number in numbers.items())
