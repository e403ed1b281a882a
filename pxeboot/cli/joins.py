"""What `pxeboot status` says of joins: whether the controller and its clusters answer, and who was refused what."""

import http.client
from pathlib import Path
from typing import Any

from pxeboot.cli import asking

PATIENCE_S = 2.0
REFUSED = {
    "address": "to an address that is not the machine's",
    "unknown": "by a name that is none",
    "spent": "of what was fetched before",
    "late": "too late after the menu",
    "ended": "of a boot that is over",
    "denied": "by the controller",
}
"""What the daemon counts, in words."""


def clusters(status: dict[str, Any]) -> dict[str, Any]:
    """Return what the controller says of its clusters; {} if it is not to be asked, or does not answer."""
    controller = status.get("controller")
    if not controller or not controller["connected"] or "socket" not in controller:
        return {}
    try:
        code, answer = asking.ask(Path(controller["socket"]), "/v1/status", patience_s=PATIENCE_S)
    except (OSError, http.client.HTTPException, ValueError):
        return {}  # it may be for the daemon alone
    found = answer.get("clusters")
    return found if code == 200 and isinstance(found, dict) else {}


def lines(status: dict[str, Any], of_clusters: dict[str, Any], now_s: float) -> list[Any]:
    """Return a line for each thing that keeps machines from joining, and one on those who were refused."""
    from rich.text import Text

    from pxeboot.cli.status import ago

    out = []
    controller, counts = status.get("controller"), status.get("joins") or {}
    if controller and not controller["connected"]:
        since = ago(max(0.0, now_s - controller["since_s"]))
        why = f" ({controller['trouble']})" if controller["trouble"] else ""
        line = f"the controller has not answered for {since}{why}; machines wait for their join commands"
        out.append(Text(line, style="bold red"))
    elif controller and controller["trouble"]:
        out.append(Text(f"the controller: {controller['trouble']}", style="bold red"))
    for name, cluster in sorted(of_clusters.items()):
        if cluster.get("trouble"):
            out.append(Text(f"cluster {name}: {cluster['trouble']}; machines wait to join it", style="bold red"))
    refused = [f"{counts[why]} {words}" for why, words in REFUSED.items() if counts.get(why)]
    if refused:
        total = sum(counts.get(why, 0) for why in REFUSED)
        plural = "" if total == 1 else "s"
        out.append(Text(f"{total} request{plural} for a join command refused: {', '.join(refused)}", style="red"))
    if counts.get("open") or counts.get("given"):
        given = counts.get("given", 0)
        line = f"{given} join command{'' if given == 1 else 's'} given, {counts.get('open', 0)} still to be fetched"
        out.append(Text(line, style="dim"))
    return out
