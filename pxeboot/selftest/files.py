"""Files that the farm names: certificates, join configuration, credentials of the controller."""

import os
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from config.model import Farm
from pxeboot.selftest.findings import Finding

SOON_S = 14 * 86400.0
"""A certificate that ends within this time is told of."""
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17


def look(farm: Farm, now_s: float) -> list[Finding]:
    """Return which files are not there, not to be read, or out of date."""
    found = [*certificates(farm, now_s)]
    for name, cluster in farm.clusters.items():
        about, path = f"cluster {name}", cluster.lts_conf
        if path is not None and (why := unreadable(path)) is not None:
            what = f"the lts_conf of cluster {name}, {path}, {why}, so its machines get no join command from it"
            remedy = "`pxeboot controller` writes it; is it running, and may this user read it?"
            found.append(Finding("warning", about, what, remedy))
        path = cluster.token_file
        if path is not None and (why := unreadable(path)) is not None:
            what = f"the token_file of cluster {name}, {path}, {why}, so its machines cannot join"
            found.append(Finding("warning", about, what, "put the token there, for this user to read"))
    if farm.lts_conf is not None and (why := unreadable(farm.lts_conf)) is not None:
        found.append(Finding("warning", "lts_conf", f"lts_conf, {farm.lts_conf}, {why}", "put it there"))
    return found


def look_controller(farm: Farm) -> list[Finding]:
    """Return which credentials of clusters the controller, if it runs here as this user, cannot read."""
    found = []
    for name, cluster in farm.clusters.items():
        if cluster.kubeconfig is not None and (why := unreadable(cluster.kubeconfig)) is not None:
            what = f"the kubeconfig of cluster {name}, {cluster.kubeconfig}, {why}"
            remedy = "put it where `pxeboot controller` runs, for its user to read; elsewhere nobody needs it"
            found.append(Finding("warning", f"cluster {name}", what, remedy))
    return found


def unreadable(path: Path) -> str | None:
    """Return why a file cannot be read; None if it can."""
    try:
        with path.open("rb") as file:
            os.pread(file.fileno(), 1, 0)
    except FileNotFoundError:
        return "is not there"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None


def certificates(farm: Farm, now_s: float) -> Iterator[Finding]:
    """Yield what is wrong with the certificates of our servers, and which ended, or will soon."""
    for section, settings in (("http.tls", farm.http.tls), ("nbd.tls", farm.nbd.tls), ("web.tls", farm.web.tls)):
        if settings is None:
            continue
        try:
            ends_s = ends(settings.certificate.read_text("ascii", "replace"))
        except (OSError, ValueError, IndexError) as error:
            why = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else "is no certificate in PEM"
            yield Finding("error", section, f"{section}.certificate: {settings.certificate} {why}")
            continue
        day = datetime.fromtimestamp(ends_s, UTC).strftime("%Y-%m-%d")
        if ends_s <= now_s:
            yield Finding("error", section, f"the certificate of {section} ended on {day}: no machine accepts it",
                          f"put a new one at {settings.certificate}; it is read within seconds")  # fmt: skip
        elif ends_s < now_s + SOON_S:
            yield Finding("warning", section, f"the certificate of {section} ends on {day}",
                          f"put a new one at {settings.certificate}; it is read within seconds")  # fmt: skip


def ends(pem: str) -> float:
    """Return when the first certificate of a text ends, in seconds since 1970 (RFC 5280 section 4.1).

    Raises `ValueError` or `IndexError` for what is none.
    """
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    at = pem.index(begin)
    der = ssl.PEM_cert_to_DER_cert(pem[at : pem.index(end, at) + len(end)])
    parts = _parts(_parts(_parts(der)[0][1])[0][1])
    if parts[0][0] == _VERSION:
        parts = parts[1:]
    _serial, _algorithm, _issuer, (kind, validity) = parts[:4]
    if kind != _SEQUENCE:
        raise ValueError("no validity")
    tag, text = _parts(validity)[1]
    digits = text.decode("ascii")
    if tag == _UTC_TIME:  # two digits for the year: 1950 to 2049
        digits = ("19" if digits[0] >= "5" else "20") + digits
    return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _parts(der: bytes) -> list[tuple[int, bytes]]:
    """Return what lies in a piece of DER, each with its tag (X.690 section 8.1)."""
    out, at = [], 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(der[at : at + count], "big")
            at += count
        out.append((tag, der[at : at + length]))
        at += length
    return out
