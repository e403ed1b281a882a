"""The credentials for an API server, as they are on disk now → an HTTP client that uses them."""

import asyncio
import base64
import logging
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import httpx2
from lightkube.config.client_adapter import user_auth, verify_cluster
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from pxeboot.controller.cluster_info import MalformedKubeconfig, discovery
from pxeboot.controller.join import Discovery

log = logging.getLogger("controller")

TOKEN_AGE_S = 60.0
"""How old what we read of a token file may be: the kubelet replaces it long before it expires (K-09)."""
_CONNECTIONS = 48


@dataclass(frozen=True, slots=True)
class Opened:
    """A client, and what its credentials say of the cluster."""

    client: httpx2.AsyncClient
    own: Discovery | str
    """The server and CA of the credentials, or why machines cannot use them."""
    unchecked: bool
    """Whether the API server is not authenticated."""


class FileToken(httpx2.Auth):
    """A bearer token in a file: read again every minute, and at once when the API does not take it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bearer = ""
        self._read_at = -TOKEN_AGE_S

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Put the token into the request. Raises `OSError` when its file cannot be read."""
        if time.monotonic() - self._read_at >= TOKEN_AGE_S:
            await self._read()
        request.headers["Authorization"] = self._bearer
        response = yield request
        if response.status_code == 401:
            refused = self._bearer
            await self._read()
            if self._bearer != refused:
                request.headers["Authorization"] = self._bearer
                yield request

    async def _read(self) -> None:
        text = await asyncio.to_thread(self._path.read_text, "ascii")
        self._bearer, self._read_at = f"Bearer {text.strip()}", time.monotonic()


def open_client(kubeconfig: Path | None, api_server: str | None) -> Opened:
    """Read the credentials and make a client of them, which waits without end: its user bounds that.

    It blocks on the disk: call it in a thread.

    Raises `ConfigError`, `OSError` and `ValueError`.
    """
    config = load_credentials(kubeconfig)
    cluster, user = config.cluster, config.user
    assert user is not None  # `load_credentials` sees to it
    client = httpx2.AsyncClient(
        base_url=cluster.server,
        verify=verify_cluster(cluster, user, config.abs_file),
        auth=FileToken(Path(config.abs_file(user.token_file))) if user.token_file else user_auth(user),
        timeout=None,
        limits=httpx2.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=8, keepalive_expiry=30.0),
    )
    own = own_discovery(config, in_cluster=kubeconfig is None, api_server=api_server)
    return Opened(client, own, cluster.insecure or not cluster.server.startswith("https:"))


def load_credentials(kubeconfig: Path | None) -> SingleConfig:
    """Read `kubeconfig`, or the service account of the pod. Raises `ConfigError` or `OSError`."""
    if kubeconfig is None:
        if "KUBERNETES_SERVICE_HOST" not in os.environ or "KUBERNETES_SERVICE_PORT" not in os.environ:
            raise ConfigError("no kubeconfig is given, and this is no pod of a cluster")
        config = KubeConfig.from_service_account().get()
    else:
        try:
            config = KubeConfig.from_file(kubeconfig).get()
        except (ConfigError, OSError):
            raise
        except Exception as error:  # msgspec, yaml and KeyError, and their texts quote the file
            raise ConfigError(f"{kubeconfig} is not a kubeconfig ({type(error).__name__})") from None
    if config is None or config.user is None:
        raise ConfigError(f"{kubeconfig}: its current context names no user")
    return config


def own_discovery(config: SingleConfig, *, in_cluster: bool, api_server: str | None) -> Discovery | str:
    """Return the server and CA that our own credentials name, or why machines cannot use them. Raises `OSError`."""
    if in_cluster and api_server is None:
        return "a pod's own address of the API server is none that machines can reach: set api_server"
    cluster = config.cluster
    try:
        if cluster.certificate_auth:
            pem = Path(config.abs_file(cluster.certificate_auth)).read_text("ascii")
        elif cluster.certificate_auth_data:
            pem = base64.b64decode(cluster.certificate_auth_data).decode("ascii")
        else:
            return "the kubeconfig has no CA"
        return discovery(cluster.server, pem)
    except (MalformedKubeconfig, ValueError) as error:
        return f"the kubeconfig cannot be used: {error}"
