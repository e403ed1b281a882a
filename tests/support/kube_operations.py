"""What pxeboot does in a cluster, with its own functions: who tests its rights does each of these."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from config.clusters import Push
from config.model import Taint
from pxeboot.controller.token import MACHINES_GROUP, Token, boot_group
from pxeboot.kube import leases, nodes, objects, paths, requests, tokens
from pxeboot.kube.api import Api
from pxeboot.kube.errors import Conflict, Unavailable
from pxeboot.kube.watching import Watch
from tests.support.control_plane import ControlPlane
from tests.support.kube_client import Client, Object
from tests.support.kube_objects import NODES, REQUESTS, SECRETS, new_token, signing_request, token_secret

NODE = "m1"
GROUPS = (MACHINES_GROUP, boot_group("0123456789abcdef", NODE))
PUSH = Push(name="pxeboot-lts")

_numbers = itertools.count(1)


@dataclass
class World:
    """A real control plane, prepared as docs/kubernetes.md says, with a Node that has booted before."""

    plane: ControlPlane
    admin: Client
    kubeconfig: Path
    """Of the controller."""
    controller: Client
    machine: Client
    """One that has a token of its own, and no certificate yet."""
    folder: Path


Operation = Callable[[World, Api], Awaitable[object]]


async def mints(_: World, api: Api) -> None:
    expires_s = time.time() + 60
    assert await tokens.create_token(api, Token.make(), expires_s, GROUPS, signing=True, description="a test's")


async def revokes(world: World, api: Api) -> None:
    token = new_token()
    assert world.admin.post(SECRETS, token_secret(token)).status == 201
    assert await tokens.delete_token(api, token[:6])


async def reads_cluster_info(_: World, api: Api) -> None:
    assert await tokens.cluster_info(api)


async def watches(
    _: World,
    api: Api,
    resource: paths.Resource,
    decode: Callable[[Object], object],
    namespace: str | None = None,
    fields: str = "",
) -> None:
    """List and watch. Raises what the watch says of itself, as if a request had been refused."""
    heard: asyncio.Future[tuple[bool, str]] = asyncio.get_running_loop().create_future()

    def on_sync(in_sync: bool, why: str) -> None:
        if not heard.done():
            heard.set_result((in_sync, why))

    watch = Watch(api, resource, decode, lambda _: None, on_sync=on_sync, namespace=namespace, fields=fields)
    running = asyncio.create_task(watch.run())
    try:
        in_sync, why = await asyncio.wait_for(heard, 90)
    finally:
        running.cancel()
    if not in_sync:
        raise Unavailable(why, 403 if "403" in why else None)


watches_cluster_info = partial(
    watches, resource=paths.CONFIG_MAPS, decode=dict, namespace="kube-public", fields="metadata.name=cluster-info"
)
watches_requests = partial(watches, resource=paths.REQUESTS, decode=requests.decode_request)
watches_leases = partial(watches, resource=paths.LEASES, decode=leases.decode_lease, namespace="pxeboot")
watches_the_pushed = partial(
    watches,
    resource=paths.SECRETS,
    decode=partial(objects.decode_text, push=PUSH),
    namespace="pxeboot",
    fields="metadata.name=pxeboot-lts",
)


def asked(world: World) -> Object:
    """A machine's request for its certificate, as it is in the API."""
    _, request = signing_request(world.folder / "keys", NODE)
    made = world.machine.post(REQUESTS, request)
    assert made.status == 201
    return made.body


async def approves(world: World, api: Api) -> None:
    assert await requests.approve(api, requests.decode_request(asked(world)), "Test", "a test says so")


async def denies(world: World, api: Api) -> None:
    assert await requests.deny(api, requests.decode_request(asked(world)), "Test", "a test says so")


async def looks_at_the_node(_: World, api: Api) -> None:
    assert await nodes.node(api, NODE)


async def looks_for_heartbeats(_: World, api: Api) -> None:
    await nodes.heartbeat(api, NODE)


async def labels_the_node(_: World, api: Api) -> None:
    taint = Taint(key="test", effect="NoSchedule")
    assert await nodes.apply_owned(api, NODE, {"test": str(next(_numbers))}, [taint])


async def says_that_it_boots(world: World, api: Api) -> None:
    while True:
        now = nodes.decode_node(world.admin.get(f"{NODES}/{NODE}").body)
        with suppress(Conflict):  # the cluster's own controllers change it too
            assert (await nodes.set_unknown(api, now, "Booting", "it boots")).condition == "Unknown"
            return


def a_lease(world: World) -> leases.Lease:
    """One that the administrator made."""
    lease = leases.Lease(f"lease-{next(_numbers)}", "a")
    made = world.admin.post(paths.LEASES.path("pxeboot"), leases.encode_lease(lease, "pxeboot"))
    return leases.decode_lease(made.body)


async def makes_a_lease(_: World, api: Api) -> None:
    assert await leases.create_lease(api, "pxeboot", leases.Lease(f"lease-{next(_numbers)}", "a"))


async def reads_a_lease(world: World, api: Api) -> None:
    assert await leases.get_lease(api, "pxeboot", a_lease(world).name)


async def replaces_a_lease(world: World, api: Api) -> None:
    assert await leases.replace_lease(api, "pxeboot", a_lease(world))


async def deletes_a_lease(world: World, api: Api) -> None:
    assert await leases.delete_lease(api, "pxeboot", a_lease(world))


async def reads_the_pushed(_: World, api: Api) -> None:
    assert await objects.read_text(api, PUSH)


async def pushes(world: World, api: Api) -> None:
    version = world.admin.get(paths.SECRETS.path("pxeboot", "pxeboot-lts")).body["metadata"]["resourceVersion"]
    assert (await objects.write_text(api, PUSH, f"# {next(_numbers)}\n", version)).text


async def joins(world: World, _: Api, path: str = "", body: object = None) -> None:
    """A machine asks, as kubeadm does. Raises `Unavailable` where it may not; what it asks for may be absent."""
    answer = world.machine.call("POST" if body else "GET", path, body)
    if answer.status not in (200, 201, 404):
        raise Unavailable(answer.reason, answer.status)


async def asks_for_its_certificate(world: World, api: Api) -> None:
    await joins(world, api, REQUESTS, signing_request(world.folder / "keys", NODE)[1])


def reads_config(name: str) -> Operation:
    """A machine reads a ConfigMap of kube-system."""
    return partial(joins, path=f"/api/v1/namespaces/kube-system/configmaps/{name}")


NEEDED: dict[tuple[str, str, str], Operation] = {
    ("pxeboot-controller-tokens", "secrets", "create"): mints,
    ("pxeboot-controller-tokens", "secrets", "delete"): revokes,
    ("pxeboot-controller-cluster-info", "configmaps", "get"): reads_cluster_info,
    ("pxeboot-controller-cluster-info", "configmaps", "list"): watches_cluster_info,
    ("pxeboot-controller-cluster-info", "configmaps", "watch"): watches_cluster_info,
    ("pxeboot-controller-heartbeats", "leases", "get"): looks_for_heartbeats,
    ("pxeboot-controller-leases", "leases", "get"): reads_a_lease,
    ("pxeboot-controller-leases", "leases", "list"): watches_leases,
    ("pxeboot-controller-leases", "leases", "watch"): watches_leases,
    ("pxeboot-controller-leases", "leases", "create"): makes_a_lease,
    ("pxeboot-controller-leases", "leases", "update"): replaces_a_lease,
    ("pxeboot-controller-leases", "leases", "delete"): deletes_a_lease,
    ("pxeboot-controller", "certificatesigningrequests", "get"): approves,
    ("pxeboot-controller", "certificatesigningrequests", "list"): watches_requests,
    ("pxeboot-controller", "certificatesigningrequests", "watch"): watches_requests,
    ("pxeboot-controller", "certificatesigningrequests/approval", "update"): denies,
    ("pxeboot-controller", "signers", "approve"): approves,
    ("pxeboot-controller", "nodes", "get"): looks_at_the_node,
    ("pxeboot-controller", "nodes", "patch"): labels_the_node,
    ("pxeboot-controller", "nodes/status", "patch"): says_that_it_boots,
    ("pxeboot-controller-push", "secrets", "get"): reads_the_pushed,
    ("pxeboot-controller-push", "secrets", "list"): watches_the_pushed,
    ("pxeboot-controller-push", "secrets", "watch"): watches_the_pushed,
    ("pxeboot-controller-push", "secrets", "patch"): pushes,
    ("pxeboot-machines-bootstrap", "system:node-bootstrapper", "*"): asks_for_its_certificate,
    ("pxeboot-machines-nodes", "nodes", "get"): partial(joins, path=f"{NODES}/{NODE}"),
    ("pxeboot-machines-configuration", "configmaps", "kubeadm-config"): reads_config("kubeadm-config"),
    ("pxeboot-machines-configuration", "configmaps", "kube-proxy"): reads_config("kube-proxy"),
    **{
        ("pxeboot-machines-configuration", "configmaps", name): reads_config(name)
        for name in ("kubelet-config", *(f"kubelet-config-1.{minor}" for minor in range(20, 24)))
    },
}
"""What needs each right: (role, resource, verb, or name where several are given). A binding to a role of the cluster's
own is one right."""


def may(world: World, operation: Operation) -> bool:
    """Do it, with new connections; False if it was forbidden. Raises whatever else goes wrong."""

    async def once() -> bool:
        api = Api("test", world.kubeconfig)
        try:
            await operation(world, api)
        except Unavailable as error:
            if error.status != 403:
                raise
            return False
        finally:
            await api.close()
        return True

    return asyncio.run(once())
