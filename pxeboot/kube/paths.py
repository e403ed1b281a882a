"""Where each kind of object lives in the API. Pure."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""One object of the API, as its JSON says it."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object: the root of its group, its plural, and what a body of it calls itself."""

    root: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """What `apiVersion` of such an object says.

        >>> Resource("/apis/coordination.k8s.io/v1", "leases", "Lease").api_version
        'coordination.k8s.io/v1'
        """
        return self.root.removeprefix("/apis/").removeprefix("/api/")

    def path(self, namespace: str | None = None, name: str | None = None, part: str | None = None) -> str:
        """The path of the collection, of the object `name` in it, or of a `part` of that, such as its status.

        >>> Resource("/api/v1", "secrets", "Secret").path("kube-system", "x")
        '/api/v1/namespaces/kube-system/secrets/x'
        """
        place = f"namespaces/{namespace}" if namespace is not None else None
        return "/".join(step for step in (self.root, place, self.plural, name, part) if step is not None)


SECRETS = Resource("/api/v1", "secrets", "Secret")
CONFIG_MAPS = Resource("/api/v1", "configmaps", "ConfigMap")
NODES = Resource("/api/v1", "nodes", "Node")
LEASES = Resource("/apis/coordination.k8s.io/v1", "leases", "Lease")
REQUESTS = Resource("/apis/certificates.k8s.io/v1", "certificatesigningrequests", "CertificateSigningRequest")


def label_value(name: str) -> str:
    """Return `name` as a label value: itself when it is one, else a digest of it."""
    if re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", name):
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def own_labels(cluster: str) -> dict[str, str]:
    """The labels of what pxeboot makes for one cluster of the configuration."""
    return {"app.kubernetes.io/managed-by": "pxeboot", "app.kubernetes.io/instance": label_value(cluster)}
