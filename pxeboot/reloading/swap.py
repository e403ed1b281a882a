"""The moment in which another farm is served. In the event loop, so nothing here may wait for anything."""

from collections.abc import Callable

import nbd.transport
from config.model import Farm
from httpimage.tls import Credentials
from nbd.actions import TlsMode
from pxeboot.hub import Hub
from pxeboot.reloading.prepared import Prepared
from pxeboot.serving import Parts, Serving


def swapping(hub: Hub, parts: Parts, serving: Serving) -> Callable[[Prepared], None]:
    """Return what has all servers follow another farm at once. What runs goes on as it began."""

    def swap(new: Prepared) -> None:
        farm = new.farm
        parts.gate.follow(farm.http)
        if parts.credentials is not None and farm.http.tls is not None and new.https is not None:
            parts.credentials.use(farm.http.tls, new.https)
        if parts.nbd_credentials is not None and farm.nbd.tls is not None and new.nbds is not None:
            parts.nbd_credentials.use(farm.nbd.tls, new.nbds)
        parts.nbd.use(nbd_tls(farm, parts.nbd_credentials))
        serving.follow(farm.server, farm.tftp)
        hub.swap(farm, new.plan, new.house)  # last: a farm that is there counts as swapped in, and is not tried again
        hub.selftest.again()

    return swap


def nbd_tls(farm: Farm, credentials: Credentials | None) -> nbd.transport.Tls | None:
    """Return what NBD says to STARTTLS; None: that there is no TLS."""
    if farm.nbd.tls is None or credentials is None:
        return None
    mode = TlsMode.REQUIRED if farm.nbd.tls.mode == "required" else TlsMode.OFFERED
    return nbd.transport.Tls(mode, lambda: credentials.context)
