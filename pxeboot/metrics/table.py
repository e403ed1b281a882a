"""docs/reference/metrics.md, made of the catalogue: `python -m pxeboot.metrics.table > docs/reference/metrics.md`."""

from collections.abc import Sequence

from pxeboot.metrics import catalogue
from pxeboot.metrics.sample import Metric

HEAD = """\
# Metrics

<!-- made by `python -m pxeboot.metrics.table`; a test says when it is out of date -->

`pxeboot serve` tells them at `/metrics`, on the addresses of `web.listen` (`http://127.0.0.1:8067/metrics` unless set
otherwise) and on its control socket; `pxeboot controller --metrics ADDRESS:PORT` tells its own. No label is a
machine's name, MAC or address, so that the page does not grow with the farm; for machines there is
`pxeboot status --json`. Numbers that only grow (counter, histogram) begin with 0 when a process starts. A page is made
once a second at most, whoever asks how often; what takes a while to find out, `pxeboot_machines` for instance, is up
to 10 seconds old. A sample that is not there yet is 0.

[deploy/monitoring/grafana-dashboard.json](../../deploy/monitoring/grafana-dashboard.json) shows them,
[deploy/monitoring/alerts.yaml](../../deploy/monitoring/alerts.yaml) says what is worth waking somebody for.
"""

SECTIONS = (
    ("The process", "Of both processes.", catalogue.PROCESS),
    ("The farm, and whether machines can boot", "", catalogue.FARM),
    ("Machines and their boots", "", catalogue.MACHINES),
    ("DHCP", "", catalogue.DHCP),
    ("TFTP, HTTP, NBD", "", catalogue.DELIVERY),
    ("Joins", "There where a cluster has a token for each boot, or a command of its own.", catalogue.JOINS),
    ("The controller", "At its own address.", catalogue.CONTROLLER),
)


def page() -> str:
    """Return the document."""
    parts = [HEAD]
    for title, text, metrics in SECTIONS:
        parts.append(f"## {title}\n\n" + (f"{text}\n\n" if text else "") + _table(metrics))
    return "\n".join(parts)


def _table(metrics: Sequence[Metric]) -> str:
    lines = ["| metric | kind | labels | what |", "|---|---|---|---|"]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
