"""`pxeboot leases`: who has which address, and how leases move here from another server, or away."""

import http.client
import json
import sys
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pxeboot.cli import asking
from pxeboot.cli.status import ago

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from config.model import Farm
    from dhcp.formats.found import Found
    from dhcp.journal import Journal
    from dhcp.leases import Lease

FILE = Path("/var/lib/pxeboot/leases")
MOST_ROWS = 2000
"""Rows of the table; more are no table for people."""
MOST_SAID = 20
"""Mistakes, and records that are left out, told one by one."""
PATIENCE_S = 30.0
FORMATS = ("table", "json", "kea-csv", "dnsmasq")


class Failed(click.ClickException):
    """The text says why there are no leases; exit status 1."""

    def show(self, file: Any = None) -> None:
        """Print it on standard error."""
        click.echo(f"pxeboot leases: {self.message}", err=True)


def settings(given: Path | None, *, must: bool) -> "Farm | None":
    """Return the farm of `--config`, else of the usual file, else None; say what is wrong, with exit status 1.

    Unless it `must` be right: the usual file may be in the middle of a change, and then counts as none.
    """
    path = asking.farm_file(given)
    if path is None:
        return None
    if given is not None or must:
        return asking.loaded(path)
    from config.load import ConfigErrors, load

    try:
        return load(path)
    except ConfigErrors:
        click.echo(f"pxeboot leases: {path} is wrong (`pxeboot check {path}`), and is not used", err=True)
        return None


def from_daemon(control: Path) -> dict[str, Any] | None:
    """Return what the daemon says, None if there is none."""
    try:
        status, answer = asking.ask(control, "/v1/leases", patience_s=PATIENCE_S)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Failed(asking.no_answer(control, error)) from None
    if status != 200:
        raise Failed(str(answer.get("error", status)))
    return answer


def from_file(path: Path, control: Path, farm: "Farm | None") -> dict[str, Any]:
    """Return what is in the lease file, as the daemon would say it."""
    from dhcp.grants import is_at_port
    from dhcp.journal import JournalError, read
    from pxeboot.api.leases import lease_json

    try:
        data = path.read_bytes()
        found = read(data, path)
    except JournalError as error:
        raise Failed(str(error)) from None
    except OSError as error:
        text = f"no daemon at {control}, and {path} cannot be read: {error.strerror}"
        raise Failed(text) from None
    now = time.time()
    click.echo(f"pxeboot leases: no daemon at {control}; this is what {path} says", err=True)
    if found.skipped:
        click.echo(f"pxeboot leases: {found.skipped} lines of {path} are unreadable", err=True)
    names = {mac: node.name for pool in farm.pools for node in pool.nodes for mac in node.macs} if farm else {}
    leases = (lease for lease in found.leases if not is_at_port(lease))
    listed = [lease_json(lease, now, names.get(lease.mac)) for lease in leases]
    return {"now_s": now, "degraded": None, "leases": listed}


def ends(lease: dict[str, Any], now: float) -> str:
    """Return when a lease ends, as a person says it."""
    if lease["expires_s"] is None:
        return "never"
    left = lease["expires_s"] - now
    return f"in {ago(left)}" if left > 0 else f"{ago(-left)} ago"


def table(leases: list[dict[str, Any]], now: float) -> Any:
    """Return the table; the columns that say nothing are left out."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    named = any(lease["machine"] for lease in leases)
    others = any(lease["client"] != lease["mac"] for lease in leases)
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("address", "mac", "state", "ends"):
        out.add_column(column, no_wrap=True)
    if named:
        out.add_column("machine", no_wrap=True, overflow="ellipsis")
    if others:
        out.add_column("client", overflow="fold")
    for lease in leases:
        state = lease["state"] if lease["valid"] or lease["state"] == "released" else "over"
        style = {"bound": "green", "declined": "red"}.get(state, "dim")
        row = [lease["address"], lease["mac"], Text(state, style=style), ends(lease, now)]
        row += [lease["machine"] or "-"] * named
        row += ["" if lease["client"] == lease["mac"] else lease["client"]] * others
        out.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return out


def show_table(answer: dict[str, Any], *, everything: bool) -> None:
    """Print the table, and what it leaves out."""
    from pxeboot import screen

    leases: list[dict[str, Any]] = answer["leases"]
    shown = leases if everything else [lease for lease in leases if lease["valid"]]
    console = screen.console()
    if shown:
        console.print(table(shown[:MOST_ROWS], answer["now_s"]))
    held = sum(lease["valid"] and lease["state"] == "bound" for lease in leases)
    resting = sum(lease["valid"] and lease["state"] == "declined" for lease in leases)
    said = [f"{held} {'lease' if held == 1 else 'leases'}"]
    if resting:
        said.append(f"{resting} in quarantine")
    if over := len(leases) - held - resting:
        said.append(f"{over} over" + ("" if everything else " (--all shows who had them)"))
    if len(shown) > MOST_ROWS:
        said.append(f"only {MOST_ROWS} shown (--format json has all)")
    click.echo(", ".join(said))


def show(answer: dict[str, Any], form: str, farm: "Farm | None", *, everything: bool) -> None:
    """Print the leases in one of `FORMATS`."""
    answer["leases"].sort(key=lambda lease: int(IPv4Address(lease["address"])))
    if answer["degraded"]:
        click.echo(f"pxeboot leases: {answer['degraded']}", err=True)
    if form == "json":
        if not everything:
            answer["leases"] = [lease for lease in answer["leases"] if lease["valid"]]
        click.echo(json.dumps(answer, indent=2))
        return
    if form == "table":
        show_table(answer, everything=everything)
        return
    from dhcp.formats import dnsmasq, kea
    from pxeboot.api.leases import lease_of

    leases = [lease_of(lease) for lease in answer["leases"]]
    subnets: list[IPv4Network] = [subnet.subnet for subnet in farm.dhcp.subnets] if farm else []
    if form == "dnsmasq":
        if not everything:  # it forgets by itself what is over; who asks for that is told that it has no place
            leases = [lease for lease in leases if lease.holds(answer["now_s"])]
        text, lost = dnsmasq.write(leases, answer["now_s"]), dnsmasq.left_out(leases, answer["now_s"])
    else:
        text = kea.write(leases, answer["now_s"], subnets)
        lost = [(lease, "is in no subnet of the farm") for lease in kea.nowhere(leases, subnets)]
        if not subnets:
            click.echo("pxeboot leases: without -c FARM all leases are Kea's subnet 1", err=True)
    say_some([f"pxeboot leases: {lease.address} {why}; left out" for lease, why in lost])
    click.echo(text, nl=False)


def say_some(lines: "Sequence[str]") -> None:
    """Say the first lines of many on standard error, and how many more there are."""
    for line in lines[:MOST_SAID]:
        click.echo(line, err=True)
    if len(lines) > MOST_SAID:
        click.echo(f"... and {len(lines) - MOST_SAID} more of these", err=True)


@click.group(invoke_without_command=True)
@click.option("-c", "--config", "configuration", type=asking.ANY_PATH,
              help="The farm's file: where the daemon and its leases are, what may be imported, and Kea's numbers of "
              f"subnets.  [default: {asking.FARM}, if there]")  # fmt: skip
@click.option("--control", type=asking.ANY_PATH,
              help=f"The daemon's control socket.  [default: the farm's, else {asking.CONTROL}]")  # fmt: skip
@click.option("--file", type=asking.ANY_PATH, help=f"Our lease file.  [default: the farm's, else {FILE}]")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True,
              help="For people, for programs, or as Kea or dnsmasq keep them.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--all", "everything", is_flag=True, help="Leases that are over, too; kea-csv always has them.")
@click.pass_context
def command(
    context: click.Context,
    configuration: Path | None,
    control: Path | None,
    file: Path | None,
    form: str,
    as_json: bool,
    everything: bool,
) -> None:
    """Show the leases of the running daemon or, when none runs, those in its file.

    A configured machine's address needs no lease; `pxeboot status` shows it.
    """
    farm = settings(configuration, must=context.invoked_subcommand is not None)
    file = file or (farm.server.state / "leases" if farm else FILE)
    context.obj = (farm, file)
    if context.invoked_subcommand is not None:
        return
    control = control or (farm.server.control if farm else asking.CONTROL)
    answer = from_daemon(control)
    if answer is None:
        answer = from_file(file, control, farm)
    show(answer, "json" if as_json else form, farm, everything=everything)


@command.command("import")
@click.option("--from", "origin", type=click.Choice(["dnsmasq", "dhcpd", "kea"]), required=True,
              help="Whose lease file it is.")  # fmt: skip
@click.option("--by-client-id", is_flag=True,
              help="Know clients by their identifier (the farm's `match_client_id`).")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what would be taken.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=asking.ANY_PATH)
@click.pass_obj
def import_command(
    where: "tuple[Farm | None, Path]", origin: str, by_client_id: bool, dry_run: bool, files: tuple[Path, ...]
) -> None:
    """Take the leases of another server's FILE; of several, a later one's count. Not while `pxeboot serve` runs.

    Machines keep their addresses when this server takes over. Exit status: 0 if every entry was taken or is over and
    forgotten, 1 if one is wrong, somebody else's here, or has no place in the farm.
    """
    farm, path = where
    by_client_id = by_client_id or (farm is not None and farm.dhcp.match_client_id)
    wrong = 0
    taken: dict[IPv4Address, Lease] = {}
    for file in files:
        found = read(origin, file, by_client_id=by_client_id)
        taken |= found.leases
        report(file, found)
        wrong += len(found.mistakes)
    book = None if dry_run else opened(path)
    try:
        ours = records(path) if book is None else book.leases
        fresh, refused = chosen(taken.values(), ours, farm, time.time())
        say_some(refused)
        if book is not None:
            book.append(fresh)
    except OSError as error:
        raise Failed(f"{path}: {error.strerror or error}; nothing was taken") from None
    finally:
        if book is not None:
            book.close()
    click.echo(f"{'would take' if dry_run else 'took'} {counted(fresh, time.time())} into {path}")
    sys.exit(1 if wrong or refused else 0)


def opened(path: Path) -> "Journal":
    """Return our lease file, ours alone; say why it cannot be had and exit with status 1."""
    from dhcp.journal import InUse, Journal
    from pxeboot.plainly import plainly

    try:
        return Journal(path)
    except InUse as error:
        raise Failed(f"{error}; stop `pxeboot serve` first") from None
    except OSError as error:
        raise Failed(plainly(error)) from None


def records(path: Path) -> "Sequence[Lease]":
    """Return what is in our lease file, which another process may have."""
    from dhcp.journal import read as read_ours

    return read_ours(path.read_bytes(), path).leases if path.exists() else ()


def read(origin: str, file: Path, *, by_client_id: bool) -> "Found":
    """Return what is in another server's file; say why it cannot be read and exit with status 1."""
    from dhcp.formats import dhcpd, dnsmasq, kea
    from dhcp.formats.found import NotThisFormat

    reader = {"dnsmasq": dnsmasq.read, "dhcpd": dhcpd.read, "kea": kea.read}[origin]
    try:
        return reader(file.read_bytes(), by_client_id=by_client_id)
    except OSError as error:
        raise Failed(f"{file}: {error.strerror}") from None
    except NotThisFormat as error:
        raise Failed(f"{file} is no lease file of {origin}: {error}") from None


def report(file: Path, found: "Found") -> None:
    """Say what of a file was not taken, and why."""
    for row, text in found.mistakes[:MOST_SAID]:
        click.echo(f"{file}:{row}: {text}", err=True)
    if len(found.mistakes) > MOST_SAID:
        click.echo(f"{file}: and {len(found.mistakes) - MOST_SAID} more wrong entries", err=True)
    if found.left_out.total():
        reasons = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items() if count)
        click.echo(f"{file}: left out {reasons}", err=True)


def chosen(
    theirs: "Iterable[Lease]", ours: "Sequence[Lease]", farm: "Farm | None", now: float
) -> "tuple[list[Lease], list[str]]":
    """Return which of their records to take, and what is to be said of others.

    A valid record of ours stays, unless theirs is the same client's and ends later. What the farm has no use for is
    left out: the address of a configured machine or of no pool, and another address of a configured machine.
    """
    known = {lease.address: lease for lease in ours}
    fits = places(farm)
    taken, refused = [], []
    for lease in theirs:
        own = known.get(lease.address)
        trouble = fits(lease)
        if trouble is not None:
            if trouble and lease.holds(now):
                refused.append(f"{trouble}; not taken")
        elif own is None or (own.client == lease.client and own.expires < lease.expires) or not own.holds(now):
            taken.append(lease)
        elif own.client != lease.client and lease.holds(now):
            refused.append(f"{lease.address} is {lease.client}'s there and {own.client}'s here; not taken")
    return taken, refused


def places(farm: "Farm | None") -> "Callable[[Lease], str | None]":
    """Return what says why the farm has no use for a lease: None if it has, an empty text if nobody loses by it."""
    if farm is None:
        return lambda _: None
    from dhcp.plan import plan

    planned = plan(farm)

    def trouble(lease: "Lease") -> str | None:
        address = lease.address
        owner, host = planned.by_address.get(address), planned.by_mac.get(lease.mac)
        if owner is not None and owner is host:
            return ""
        if owner is not None:
            return f"{address} is {lease.client}'s there and configured for {owner.name} here"
        network = planned.network_of(address)
        if network is None:
            return f"{address} ({lease.client}) is in no subnet of the farm"
        if not any(address in pool for pool in network.pools):
            return f"{address} ({lease.client}) is in no pool of {network.network}"
        if host is not None:
            return f"{address} is a lease of {host.name}, which the farm gives {host.address}"
        return None

    return trouble


def counted(leases: "Sequence[Lease]", now: float) -> str:
    """Return how many leases there are, of each kind."""
    held = sum(lease.state == "bound" and lease.holds(now) for lease in leases)
    resting = sum(lease.state == "declined" and lease.holds(now) for lease in leases)
    said = f"{held} {'lease' if held == 1 else 'leases'}"
    if resting:
        said += f", {resting} in quarantine"
    if over := len(leases) - held - resting:
        said += f", {over} that {'is' if over == 1 else 'are'} over"
    return said
