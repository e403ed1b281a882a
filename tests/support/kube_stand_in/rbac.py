"""Whether somebody may do something. The rules are objects in the store; at the start those that kubeadm leaves."""

from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from tests.support.kube_stand_in.identity import User
from tests.support.kube_stand_in.resources import (
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    CSRS,
    LEASES,
    NODES,
    ROLE_BINDINGS,
    ROLES,
    Object,
    Target,
)
from tests.support.kube_stand_in.store import Store

SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
DEFAULT_GROUP = "system:bootstrappers:kubeadm:default-node-token"


def allowed(store: Store, user: User, verb: str, target: Target) -> bool:
    """Return whether one of the rules that bind `user` allows it."""
    if "system:masters" in user.groups or _node_may(user, verb, target):
        return True
    plural = f"{target.resource.plural}/{target.subresource}" if target.subresource else target.resource.plural
    return grants(store, user, verb, target.resource.group, plural, target.namespace, target.name)


def grants(store: Store, user: User, verb: str, group: str, plural: str, namespace: str = "", name: str = "") -> bool:
    """Return whether RBAC does; `plural` may be one that we have no objects of, such as signers."""
    return any(
        _has(rule.get("verbs"), verb)
        and _has(rule.get("apiGroups"), group)
        and _has(rule.get("resources"), plural)
        and (not rule.get("resourceNames") or name in rule["resourceNames"])
        for rule in _rules(store, user, namespace)
    )


def _has(among: Iterable[str] | None, wanted: str) -> bool:
    return bool({wanted, "*"} & set(among or ()))


def _rules(store: Store, user: User, namespace: str) -> Iterator[Object]:
    bindings = [*store.all(CLUSTER_ROLE_BINDINGS), *(store.all(ROLE_BINDINGS, namespace) if namespace else ())]
    for binding in bindings:
        if not any(_is_bound(user, subject) for subject in binding.get("subjects") or ()):
            continue
        ref = binding["roleRef"]
        role = (
            store.get(CLUSTER_ROLES, "", ref["name"])
            if ref["kind"] == "ClusterRole"
            else store.get(ROLES, binding["metadata"].get("namespace", ""), ref["name"])
        )
        yield from (role or {}).get("rules") or ()


def _is_bound(user: User, subject: dict[str, Any]) -> bool:
    match subject["kind"]:
        case "User":
            return bool(user.name == subject["name"])
        case "Group":
            return subject["name"] in user.groups
        case _:
            return bool(user.name == f"system:serviceaccount:{subject.get('namespace')}:{subject['name']}")


def _node_may(user: User, verb: str, target: Target) -> bool:
    """The rules of role system:node that a joining machine needs; NodeRestriction narrows them (`admission`)."""
    if user.node is None:
        return False
    match target.resource, target.subresource:
        case (resource, "") if resource == NODES:
            return verb in ("create", "get", "list", "watch", "patch", "update")
        case (resource, "status") if resource == NODES:
            return verb in ("patch", "update")
        case (resource, "") if resource == LEASES:
            return target.namespace == "kube-node-lease" and verb in ("create", "delete", "get", "patch", "update")
        case (resource, "") if resource == CSRS:
            return verb in ("create", "get", "list", "watch")
        case _:
            return False


def bootstrap() -> list[Object]:
    """Return the namespaces, roles and ConfigMaps of a cluster that `kubeadm init` has made."""
    return list(yaml.safe_load_all(BOOTSTRAP))


BOOTSTRAP = f"""\
{{apiVersion: v1, kind: Namespace, metadata: {{name: default}}}}
---
{{apiVersion: v1, kind: Namespace, metadata: {{name: kube-system}}}}
---
{{apiVersion: v1, kind: Namespace, metadata: {{name: kube-public}}}}
---
{{apiVersion: v1, kind: Namespace, metadata: {{name: kube-node-lease}}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: cluster-admin}}
rules: [{{apiGroups: ["*"], resources: ["*"], verbs: ["*"]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: "system:node-bootstrapper"}}
rules:
  - {{apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests], verbs: [create, get, list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient"}}
rules:
  - {{apiGroups: [certificates.k8s.io], resources: [certificatesigningrequests/nodeclient], verbs: [create]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: "kubeadm:get-nodes"}}
rules: [{{apiGroups: [""], resources: [nodes], verbs: [get]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: "kubeadm:kubelet-bootstrap"}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-bootstrapper"}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "{DEFAULT_GROUP}"}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: "kubeadm:node-autoapprove-bootstrap"}}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient"
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "{DEFAULT_GROUP}"}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: "kubeadm:get-nodes"}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "kubeadm:get-nodes"}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "{DEFAULT_GROUP}"}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: "kubeadm:bootstrap-signer-clusterinfo", namespace: kube-public}}
rules: [{{apiGroups: [""], resources: [configmaps], resourceNames: [cluster-info], verbs: [get]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: "kubeadm:bootstrap-signer-clusterinfo", namespace: kube-public}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: "kubeadm:bootstrap-signer-clusterinfo"}}
subjects:
  - {{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:anonymous"}}
  - {{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:authenticated"}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: "kubeadm:nodes-kubeadm-config", namespace: kube-system}}
rules:
  - apiGroups: [""]
    resources: [configmaps]
    resourceNames: [kubeadm-config, kubelet-config-1.20, kube-proxy]
    verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: "kubeadm:nodes-kubeadm-config", namespace: kube-system}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: "kubeadm:nodes-kubeadm-config"}}
subjects:
  - {{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "{DEFAULT_GROUP}"}}
  - {{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: kubeadm-config, namespace: kube-system}}
data: {{ClusterConfiguration: "apiVersion: kubeadm.k8s.io/v1beta2\\nkind: ClusterConfiguration\\n"}}
"""
