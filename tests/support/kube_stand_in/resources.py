"""Which kinds of objects there are, and what the path of a request means."""

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    subresources: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """What an object says of itself: v1, coordination.k8s.io/v1."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


SECRETS = Resource("", "v1", "secrets", "Secret")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
NODES = Resource("", "v1", "nodes", "Node", False, ("status",))
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", False, ("status",))
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
CSRS = Resource(
    "certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", False,
    ("status", "approval"),
)  # fmt: skip
RBAC = "rbac.authorization.k8s.io"
ROLES = Resource(RBAC, "v1", "roles", "Role")
ROLE_BINDINGS = Resource(RBAC, "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLES = Resource(RBAC, "v1", "clusterroles", "ClusterRole", False)
CLUSTER_ROLE_BINDINGS = Resource(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", False)
ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False)

ALL = (
    SECRETS, CONFIG_MAPS, NODES, NAMESPACES, SERVICE_ACCOUNTS, LEASES, CSRS,
    ROLES, ROLE_BINDINGS, CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, ACCESS_REVIEWS,
)  # fmt: skip
BY_PATH = {(resource.group, resource.version, resource.plural): resource for resource in ALL}
BY_KIND = {(resource.api_version, resource.kind): resource for resource in ALL}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about. `namespace` is "" for all of them; `name` is "" for a list or a new object."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def target(path: str) -> Target | None:
    """Return what a path names; None if there is no such.

    >>> target("/api/v1/namespaces/kube-system/secrets/x").name
    'x'
    >>> target("/api/v1/namespaces/kube-system").resource.kind
    'Namespace'
    """
    match path.strip("/").split("/"):
        case ["api", version, *rest]:
            group = ""
        case ["apis", group, version, *rest]:
            pass
        case _:
            return None
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and (group, version, rest[2]) in BY_PATH:
        _, namespace, *rest = rest
    if not 1 <= len(rest) <= 3:
        return None
    resource = BY_PATH.get((group, version, rest[0]))
    name, subresource = (*rest[1:], "", "")[:2]
    if resource is None or (subresource and subresource not in resource.subresources):
        return None
    if bool(namespace) != resource.namespaced and (namespace or name):
        return None
    return Target(resource, namespace, name, subresource)
