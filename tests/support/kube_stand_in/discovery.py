"""What kinds the API says it has: enough for kubectl to find them."""

from tests.support.kube_stand_in.resources import ALL, CSRS, Object, Resource

VERSION = {"major": "1", "minor": "20", "gitVersion": "v1.20.2", "platform": "linux/amd64"}
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]


def documents(path: str) -> Object | None:
    """Return the document at a path of discovery; None if it is none."""
    match path.strip("/").split("/"):
        case ["version"]:
            return dict(VERSION)
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            groups = sorted({(resource.group, resource.version) for resource in ALL if resource.group})
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*pair) for pair in groups]}
        case ["api", version]:
            return _resources("", version)
        case ["apis", group, version]:
            return _resources(group, version)
        case _:
            return None


def _group(group: str, version: str) -> Object:
    both = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [both], "preferredVersion": both}


def _resources(group: str, version: str) -> Object | None:
    found = [resource for resource in ALL if (resource.group, resource.version) == (group, version)]
    if not found:
        return None
    listed = [entry for resource in found for entry in _entries(resource)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": found[0].api_version,
        "resources": listed,
    }


def _entries(resource: Resource) -> list[Object]:
    both = {"singularName": resource.kind.lower(), "namespaced": resource.namespaced, "kind": resource.kind}
    names = [resource.plural, *(f"{resource.plural}/{sub}" for sub in resource.subresources)]
    short = {"namespaces": ["ns"], "configmaps": ["cm"], "nodes": ["no"], CSRS.plural: ["csr"]}.get(
        resource.plural, []
    )
    return [
        {"name": name, **both, "shortNames": short, "verbs": VERBS if "/" not in name else VERBS[3:6]}
        for name in names
    ]
