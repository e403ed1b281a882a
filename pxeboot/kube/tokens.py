"""Bootstrap tokens: made and deleted, never read. No Secret is ever got, listed or watched here.

What a controller may do can therefore be as little as create and delete of Secrets in kube-system.
"""

from collections.abc import Sequence

from pxeboot.controller.token import SECRET_TYPE, Token, rfc3339, secret_name
from pxeboot.kube.api import Api
from pxeboot.kube.errors import AlreadyExists, Unavailable
from pxeboot.kube.paths import CONFIG_MAPS, SECRETS, own_labels

NAMESPACE = "kube-system"


async def create_token(
    api: Api,
    token: Token,
    expires_s: float,
    groups: Sequence[str],
    *,
    signing: bool,
    description: str,
    dry_run: bool = False,
) -> bool:
    """Make the Secret of a token that lives until `expires_s` (seconds since 1970); False if its id is taken.

    `groups` are what it authenticates as besides system:bootstrappers; `signing` lets cluster-info be signed with it.
    (Kubernetes, "Authenticating with Bootstrap Tokens".) With `dry_run` nothing is made: so one asks whether there is
    a token of that id, without the right to read it. Raises `Unavailable`.
    """
    data = {
        "token-id": token.id,
        "token-secret": token.secret,
        "expiration": rfc3339(expires_s),
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true" if signing else "false",
        "auth-extra-groups": ",".join(groups),
        "description": description,
    }
    secret = {
        "apiVersion": SECRETS.api_version,
        "kind": SECRETS.kind,
        "metadata": {"name": secret_name(token.id), "labels": own_labels(api.name)},
        "type": SECRET_TYPE,
        "stringData": data,
    }
    try:
        query = {"dryRun": "All"} if dry_run else None
        await api.call("POST", SECRETS.path(NAMESPACE), query=query, body=secret)
    except AlreadyExists:
        return False
    return True


async def delete_token(api: Api, token_id: str) -> bool:
    """Delete a token; False if it was gone already. Raises `Unavailable`."""
    try:
        await api.call("DELETE", SECRETS.path(NAMESPACE, secret_name(token_id)))
    except Unavailable as error:
        if error.status != 404:
            raise
        return False
    return True


async def cluster_info(api: Api) -> dict[str, str] | None:
    """Return the data of ConfigMap kube-public/cluster-info; None when there is none. Raises `Unavailable`."""
    try:
        config_map = await api.call("GET", CONFIG_MAPS.path("kube-public", "cluster-info"))
    except Unavailable as error:
        if error.status != 404:
            raise
        return None
    return {str(key): str(value) for key, value in (config_map.get("data") or {}).items()}
