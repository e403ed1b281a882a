"""Certificate signing requests (certificates.k8s.io/v1) as values, and the answer to one."""

import base64
import binascii
from typing import Literal

from pxeboot.kube.api import Api
from pxeboot.kube.errors import Conflict, Unavailable
from pxeboot.kube.paths import REQUESTS, Object
from pxeboot.kube.times import rfc3339_now, seconds
from pxeboot.kube.values import Request

__all__ = ["Request", "approve", "decode_request", "deny"]

_TRIES = 4
_MOST_BYTES = 16385
"""Of a request's PEM that is kept, one more than any that is approved has: it may be a megabyte of whoever made it."""


def decode_request(raw: Object) -> Request:
    """Read a CertificateSigningRequest object; what is absent or odd is left empty."""
    metadata, spec, status = (raw.get(part) or {} for part in ("metadata", "spec", "status"))
    decided = {condition.get("type") for condition in status.get("conditions") or () if isinstance(condition, dict)}
    try:
        pem = base64.b64decode(spec.get("request") or "", validate=True)[:_MOST_BYTES]
    except (binascii.Error, ValueError, TypeError):
        pem = b""
    return Request(
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        created_s=seconds(metadata.get("creationTimestamp")) or 0.0,
        username=str(spec.get("username", "")),
        groups=tuple(map(str, spec.get("groups") or ())),
        signer=str(spec.get("signerName", "")),
        usages=tuple(map(str, spec.get("usages") or ())),
        pem=pem,
        approved="Approved" in decided,
        denied="Denied" in decided,
        issued=bool(status.get("certificate")),
    )


async def approve(api: Api, request: Request, reason: str, message: str) -> bool:
    """Approve it; return whether it is approved now. False: it is gone, or was denied. Raises `Unavailable`.

    `reason` is a word in CamelCase, `message` for people. One that is approved already is left as it is.
    """
    return await _decide(api, request, "Approved", reason, message)


async def deny(api: Api, request: Request, reason: str, message: str) -> bool:
    """Deny it; return whether it is denied now. False: it is gone, or was approved. Raises `Unavailable`."""
    return await _decide(api, request, "Denied", reason, message)


async def _decide(
    api: Api, request: Request, verdict: Literal["Approved", "Denied"], reason: str, message: str
) -> bool:
    """Add the condition to the object as it is now, if it is still the one that was judged (its uid says so).

    The whole object is read and sent back, so that what others wrote into it stays.
    """
    for _ in range(_TRIES):
        try:
            raw = await api.call("GET", REQUESTS.path(name=request.name))
            now = decode_request(raw)
            if now.uid != request.uid:
                return False
            if not now.waits:
                return now.approved if verdict == "Approved" else now.denied
            await api.call(
                "PUT", REQUESTS.path(name=request.name, part="approval"), body=_with(raw, verdict, reason, message)
            )
            return True
        except Conflict:
            continue
        except Unavailable as error:
            if error.status != 404:
                raise
            return False
    raise Unavailable(f"request {request.name} changes faster than it can be answered")


def _with(raw: Object, verdict: str, reason: str, message: str) -> Object:
    now = rfc3339_now()
    condition = {
        "type": verdict,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastUpdateTime": now,
    }
    status = raw.get("status") or {}
    return raw | {"status": status | {"conditions": [*(status.get("conditions") or ()), condition]}}
