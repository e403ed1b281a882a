"""The Kubernetes API as the controller uses it: Secrets of ours in kube-system, and ConfigMap cluster-info.

Every failure leaves here as one `Unavailable`, whatever the client library made of it; its text is fit for a log.
"""

import asyncio
import base64
import hashlib
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx2
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.async_client import AsyncClient
from lightkube.core.exceptions import ConfigError
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Secret

from pxeboot.controller.cluster_info import MalformedKubeconfig, discovery
from pxeboot.controller.join import Discovery
from pxeboot.controller.token import (
    SECRET_TYPE,
    IssuedToken,
    NotAToken,
    Token,
    read_secret,
    secret_data,
    secret_name,
)
from pxeboot.kube.errors import Unavailable

log = logging.getLogger("controller")

T = TypeVar("T")

NAMESPACE = "kube-system"
REQUEST_S = 5.0
"""How long one request may take, from connecting to the last byte."""


class KubeApi:
    """One cluster's API, with the credentials of `kubeconfig`, or those of the pod we run in when that is None.

    The client is made when it is first needed and dropped after every failure, so that new credentials or another
    CA in the file are taken up without a restart.
    """

    def __init__(self, cluster: str, kubeconfig: Path | None, api_server: str | None = None) -> None:
        self._labels = {"app.kubernetes.io/managed-by": "pxeboot", "app.kubernetes.io/instance": label_value(cluster)}
        self._cluster = cluster
        self._kubeconfig = kubeconfig
        self._api_server = api_server
        self._client: AsyncClient | None = None
        self._own: Discovery | str = ""
        self._may_list = True
        self._made: set[str] = set()

    async def tokens(self, known: frozenset[str]) -> tuple[IssuedToken, ...]:
        """Return our bootstrap tokens, found by their label.

        A role that may not list Secrets (RBAC cannot limit that to a label) is enough: then only those whose ids are
        `known`, and those made here, are looked at, and what an earlier controller left behind ends with its own life.
        Raises `Unavailable`.
        """
        if self._may_list:
            try:
                return self._decode(await self._call(self._list))
            except Unavailable as error:
                if error.status != 403:
                    raise
                self._may_list = False
                log.info("%s: Secrets may not be listed here; tokens are looked up by name", self._cluster)
        ids = sorted(known | self._made)
        found = {token_id: await self._call(partial(self._get, token_id=token_id)) for token_id in ids}
        self._made = {token_id for token_id in self._made if found[token_id] is not None}
        return self._decode([secret for secret in found.values() if secret is not None])

    async def cluster_info(self) -> dict[str, str] | None:
        """Return the data of ConfigMap kube-public/cluster-info; None when there is none. Raises `Unavailable`."""
        try:
            config_map = await self._call(
                lambda client: client.get(ConfigMap, "cluster-info", namespace="kube-public")
            )
        except Unavailable as error:
            if error.status == 404:
                return None
            raise
        return dict(config_map.data or {})

    async def own(self) -> Discovery | str:
        """Return the server and CA of our own credentials, or why machines cannot use them. Raises `Unavailable`."""
        await self._connect()
        return self._own

    async def create(self, expires: float) -> Token:
        """Make a token that lives until `expires` (seconds since 1970) and return it. Raises `Unavailable`."""
        for _ in range(3):
            token = Token.make()
            data = secret_data(token, expires, f"made by pxeboot: machines of cluster {self._cluster} join with it")
            secret = Secret(
                metadata=ObjectMeta(name=secret_name(token.id), namespace=NAMESPACE, labels=self._labels),
                type=SECRET_TYPE,
                stringData=data,
            )
            try:
                await self._call(partial(self._create, secret=secret))
            except Unavailable as error:
                if error.status != 409:
                    raise
            else:
                self._made.add(token.id)
                return token
        raise Unavailable("three new token ids in a row were taken", 409)

    async def delete(self, token_id: str) -> None:
        """Delete a token of ours; one that is gone already is fine. Raises `Unavailable`."""
        try:
            await self._call(lambda client: client.delete(Secret, secret_name(token_id), namespace=NAMESPACE))
        except Unavailable as error:
            if error.status != 404:
                raise

    async def close(self) -> None:
        """Close the connections; the next call opens others."""
        client, self._client, self._may_list = self._client, None, True
        if client is not None:
            await client.close()

    async def _list(self, client: AsyncClient) -> list[Secret]:
        return [secret async for secret in client.list(Secret, namespace=NAMESPACE, labels=dict(self._labels))]

    async def _create(self, client: AsyncClient, secret: Secret) -> None:
        await client.create(secret)

    async def _get(self, client: AsyncClient, token_id: str) -> Secret | None:
        try:
            return await client.get(Secret, secret_name(token_id), namespace=NAMESPACE)
        except httpx2.HTTPStatusError as error:
            if error.response.status_code == 404:
                return None
            raise

    def _decode(self, secrets: list[Secret]) -> tuple[IssuedToken, ...]:
        """The tokens among `secrets` that are ours and fit to use; others are left alone, and said so."""
        tokens = []
        for secret in secrets:
            metadata = secret.metadata or ObjectMeta()
            if secret.type != SECRET_TYPE or not self._labels.items() <= (metadata.labels or {}).items():
                continue
            try:
                created = metadata.creationTimestamp.timestamp() if metadata.creationTimestamp else 0.0
                tokens.append(read_secret(secret.data or {}, created))
            except NotAToken as error:
                log.warning(
                    "%s: Secret %r carries our label and is no token of ours: %s", self._cluster, metadata.name, error
                )
        return tuple(tokens)

    async def _call(self, request: Callable[[AsyncClient], Awaitable[T]]) -> T:
        async with translated():
            client = await self._connect()
            return await request(client)

    async def _connect(self) -> AsyncClient:
        """Return the client, made from the credentials as they are on disk now. Raises `Unavailable`."""
        if self._client is None:
            async with translated():
                config = load_credentials(self._kubeconfig)
                if config.cluster.insecure or not config.cluster.server.startswith("https:"):
                    log.warning(
                        "%s: the API server is not authenticated: its kubeconfig switches that off", self._cluster
                    )
                self._own = own_discovery(config, in_cluster=self._kubeconfig is None, api_server=self._api_server)
                self._client = AsyncClient(config, timeout=httpx2.Timeout(REQUEST_S))
        return self._client


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Bound what is inside by `REQUEST_S`, and turn what goes wrong in it into `Unavailable`."""
    try:
        async with asyncio.timeout(REQUEST_S):
            yield
    except Unavailable:
        raise
    except TimeoutError:
        raise Unavailable(f"no answer within {REQUEST_S:g} s") from None
    except httpx2.HTTPStatusError as error:
        status = error.response.status_code
        raise Unavailable(f"HTTP {status}: {error}", status, retry_after(error.response)) from None
    except ConfigError as error:
        raise Unavailable(f"the credentials cannot be used: {error}") from None
    except OSError as error:
        raise Unavailable(f"the credentials cannot be read: {error}") from None
    except httpx2.HTTPError as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from None
    except Exception as error:
        # The client library lets whatever its JSON decoder or a missing header raises escape. Its text may quote a
        # Secret, so only its kind is told.
        raise Unavailable(f"the answer could not be understood ({type(error).__name__})") from None


def retry_after(response: httpx2.Response) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110 section 10.2.3); None without one, or for a date."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None


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


def label_value(name: str) -> str:
    """Return `name` as a label value: itself when it is one, else a digest of it."""
    if re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", name):
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:32]
