"""deploy/helm/pxeboot in a real cluster: Helm installs, upgrades and takes it away; its account may do what it must.

No kubelet runs the pods. What they would do is done here: the controller, with the token that its volume would hold.
"""

import base64
import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chart import CHART, ROOT, Object, farm_text, objects, only, render
from tests.support.control_plane import DEPLOY, ControlPlane
from tests.support.document import steps
from tests.support.helm import HelmFailed, helm, wrapper
from tests.support.kube_client import MERGE, Client
from tests.support.kube_credentials import kubeconfig
from tests.support.kube_objects import NODES, SECRETS, authenticates, new_token, token_secret
from tests.support.kube_operations import GROUPS, NEEDED, NODE, World, may
from tests.support.kube_thread import until

pytestmark = pytest.mark.net

NAMESPACE = "pxeboot"
OURS = f"/api/v1/namespaces/{NAMESPACE}"
ACCOUNT = f"{OURS}/serviceaccounts/pxeboot-controller"
RULES = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
LTS_CONF = "/var/lib/pxeboot-join/here.conf"
ON_HAND = "/var/run/secrets/kubernetes.io/serviceaccount"

VALUES: Object = {
    "farm": {
        "server": {"interfaces": ["eth1"]},
        "dhcp": {"subnets": [{"subnet": "10.28.0.0/16"}]},
        "clusters": {"here": {"lts_conf": LTS_CONF, "push": {"name": "pxeboot-lts"}}},
        "pools": [
            {
                "name": "workers",
                "image": "node",
                "cluster": "here",
                "nodes": [{"name": NODE, "macs": ["52:54:00:12:34:56"], "ip": "10.28.0.5"}],
            }
        ],
    }
}


class Cluster:
    """A cluster with the chart in it, and who speaks to it."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        self.plane, self.folder = plane, folder
        self.admin = Client.of(plane.kubeconfig, folder / "admin")
        self.install(VALUES)

    def install(self, values: Object) -> None:
        """Install the chart, or upgrade to other values. Raises `HelmFailed`."""
        file = self.folder / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        self.helm("upgrade", "--install", "pxeboot", CHART, "--create-namespace", "-f", file)

    def helm(self, *argv: str | Path) -> str:
        """Run helm. Raises `HelmFailed`."""
        return helm(self.plane.kubeconfig, self.folder, *argv, "-n", NAMESPACE)

    def get(self, one: Object) -> Object:
        """An object as it is in the cluster; {} if it is not there."""
        space = ("-n", one["metadata"]["namespace"]) if "namespace" in one["metadata"] else ()
        text = self.plane.kubectl(
            "get", one["kind"], one["metadata"]["name"], *space, "-o", "json", "--ignore-not-found"
        )
        found: Object = json.loads(text or "{}")
        return found

    def token(self) -> str:
        """A token of the account, as the kubelet asks for one for its volume."""
        spec = {"audiences": None, "expirationSeconds": 3600}
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.admin.post(f"{ACCOUNT}/token", asked)
        assert answer.status == 201
        return str(answer.body["status"]["token"])


@pytest.fixture(scope="module", name="cluster")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("plane")
    with ControlPlane(folder) as plane:
        yield Cluster(plane, folder)


def changed(**more: Any) -> Object:
    values = copy.deepcopy(VALUES)
    values["farm"] |= more
    return values


# As it is installed.


def test_every_object_of_the_chart_is_there(cluster: Cluster) -> None:
    missing = [one["metadata"]["name"] for one in objects(render(VALUES)) if not cluster.get(one)]
    assert not missing


def test_the_cluster_makes_a_pod_of_it(cluster: Cluster) -> None:
    """Admission has taken it: its account, its priority, the host's network."""

    def pods() -> list[Object]:
        listed: list[Object] = cluster.admin.get(f"{OURS}/pods").body["items"]
        return listed

    until(lambda: bool(pods()), "there is a pod")
    (pod,) = pods()
    assert pod["spec"]["hostNetwork"]
    assert pod["spec"]["priority"] == 2_000_000_000
    volumes = {mount["name"] for one in pod["spec"]["containers"] for mount in one["volumeMounts"]}
    assert volumes == {one["name"] for one in pod["spec"]["volumes"]}  # none that the cluster put in


def test_the_farm_in_the_cluster_is_the_one_that_was_rendered(cluster: Cluster) -> None:
    there = cluster.admin.get(f"{OURS}/configmaps/pxeboot-farm").body["data"]
    assert there == {"farm.yaml": farm_text(objects(render(VALUES)))}


# Its rights.


def test_its_account_can_do_all_that_the_controller_does(cluster: Cluster) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    assert cluster.admin.post(NODES, node).status == 201
    machines = new_token()
    assert cluster.admin.post(SECRETS, token_secret(machines, groups=GROUPS)).status == 201
    machine = cluster.admin.with_token(machines)
    authenticates(machine)
    path = cluster.folder / "account.kubeconfig"
    kubeconfig(path, cluster.plane.url, cluster.plane.pki / "ca.crt", cluster.token(), "account")
    account = Client.of(path, cluster.folder / "account")
    world = World(cluster.plane, cluster.admin, path, account, machine, cluster.folder)
    assert [operation.__name__ for operation in dict.fromkeys(NEEDED.values()) if not may(world, operation)] == []


def granted(namespace: str) -> set[tuple[str, str, str]]:
    """What deploy/kubernetes gives the controller there: (resource, name, verb)."""
    found = set()
    for file in ("rbac.yaml", "rbac-push.yaml"):
        for one in yaml.safe_load_all((DEPLOY / file).read_text()):
            here = one["kind"] == "ClusterRole" or one["metadata"].get("namespace") == namespace
            if here and one["metadata"]["name"].startswith("pxeboot-controller"):
                found |= {
                    (resource, name, verb)
                    for rule in one.get("rules", ())
                    for resource in rule["resources"]
                    for name in rule.get("resourceNames", [""])
                    for verb in rule["verbs"]
                }
    return found


@pytest.mark.parametrize("namespace", ["default", "kube-system", "kube-public", "kube-node-lease", NAMESPACE])
def test_its_account_can_do_nothing_else(cluster: Cluster, namespace: str) -> None:
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview"}
    answer = cluster.admin.with_token(cluster.token()).post(RULES, review | {"spec": {"namespace": namespace}})
    may_do = {
        (resource, name, verb)
        for rule in answer.body["status"]["resourceRules"]
        for resource in rule["resources"]
        if not resource.startswith("selfsubject")
        for name in rule.get("resourceNames") or [""]
        for verb in rule["verbs"]
    }
    assert may_do == granted(namespace)


def test_the_controller_keeps_a_join_command_with_what_its_pod_has(cluster: Cluster, tmp_path: Path) -> None:
    """In a mount namespace of its own: the farm and the account's folder where the pod has them, and no kubeconfig."""
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text(cluster.token())
    (account / "namespace").write_text(NAMESPACE)
    published = cluster.admin.get(f"{OURS}/configmaps/kube-root-ca.crt").body["data"]["ca.crt"]
    (account / "ca.crt").write_text(published)
    farm = tmp_path / "farm.yaml"
    join = tmp_path / "join"
    join.mkdir()
    farm.write_text(cluster.admin.get(f"{OURS}/configmaps/pxeboot-farm").body["data"]["farm.yaml"])
    script = (
        "mount -t tmpfs none /run && mkdir -p $3 /run/pxeboot-controller && mount --bind $1 $3 &&"
        " mount -t tmpfs none /var/lib && mkdir -p ${5%/*} && mount --bind $4 ${5%/*} &&"
        f" exec {sys.executable} -m pxeboot controller --once -c $2"
    )
    host, port = cluster.plane.address, cluster.plane.port
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", account, farm, ON_HAND, join, LTS_CONF],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"], "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)},
    )
    assert done.returncode == 0, done.stderr
    assert f"kubeadm join {cluster.plane.endpoint}" in (join / "here.conf").read_text()


# Upgrades.


def test_another_farm_changes_its_configmap_and_no_pod(cluster: Cluster) -> None:
    deployment = only(objects(render(VALUES)), "Deployment")
    before = cluster.get(deployment)["metadata"]["generation"]
    cluster.install(changed(tftp={"windowsize": 16}))
    there = cluster.admin.get(f"{OURS}/configmaps/pxeboot-farm").body["data"]["farm.yaml"]
    assert yaml.safe_load(there)["tftp"] == {"windowsize": 16}
    assert cluster.get(deployment)["metadata"]["generation"] == before


def test_what_is_wrong_changes_nothing(cluster: Cluster) -> None:
    before = cluster.admin.get(f"{OURS}/configmaps/pxeboot-farm").body
    with pytest.raises(HelmFailed, match="windowsize"):
        cluster.install(changed(tftp={"windowsize": "sixteen"}))
    assert cluster.admin.get(f"{OURS}/configmaps/pxeboot-farm").body == before


def test_a_farm_that_gets_a_password_moves_to_a_secret_and_back(cluster: Cluster) -> None:
    cluster.install(changed(node={"root_password_hash": "$6$salt$example"}))
    assert cluster.admin.get(f"{OURS}/configmaps/pxeboot-farm").status == 404
    kept = cluster.admin.get(f"{OURS}/secrets/pxeboot-farm").body["data"]["farm.yaml"]
    assert "$6$salt$example" in base64.b64decode(kept).decode()
    cluster.helm("rollback", "pxeboot")
    assert cluster.admin.get(f"{OURS}/configmaps/pxeboot-farm").status == 200
    assert cluster.admin.get(f"{OURS}/secrets/pxeboot-farm").status == 404


def test_what_the_controllers_push_survives_upgrades(cluster: Cluster) -> None:
    held = base64.b64encode(b"[Default]\n# kept\n").decode()
    secret = f"{OURS}/secrets/pxeboot-lts"
    assert cluster.admin.call("PATCH", secret, {"data": {"lts.conf": held}}, MERGE).status == 200
    cluster.install(VALUES)
    assert cluster.admin.get(secret).body["data"]["lts.conf"] == held


def monitoring(kind: str) -> str:
    """A kind of the Prometheus operator, as far as an API server has to know it."""
    plural = f"{kind.lower()}s"
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    anything = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": anything}
    spec = {"group": "monitoring.coreos.com", "names": names, "scope": "Namespaced", "versions": [version]}
    metadata = {"name": f"{plural}.monitoring.coreos.com"}
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": metadata,
            "spec": spec,
        }
    )


def test_metrics_have_a_service_and_a_monitor_where_there_is_an_operator(cluster: Cluster) -> None:
    for kind in ("ServiceMonitor", "PrometheusRule"):
        cluster.plane.apply(monitoring(kind))
    values = changed(web={"listen": ["0.0.0.0:8067"]}) | {
        "metrics": {
            "enabled": True,
            "serviceMonitor": {"enabled": True},
            "rules": {"enabled": True},
            "dashboard": {"enabled": True},
        }
    }
    known = f"/apis/monitoring.coreos.com/v1/namespaces/{NAMESPACE}"
    kinds = [f"{known}/{plural}" for plural in ("servicemonitors", "prometheusrules")]
    until(lambda: all(cluster.admin.get(path).status == 200 for path in kinds), "the API knows these kinds")
    cluster.install(values)
    service = cluster.admin.get(f"{OURS}/services/pxeboot-metrics").body
    assert service["spec"]["clusterIP"] == "None"
    monitor = cluster.get(only(objects(render(values)), "ServiceMonitor"))
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert cluster.admin.get(f"{known}/prometheusrules/pxeboot").body["spec"]["groups"]


# The end of it; the tests above need what it takes away.


def test_taken_away_it_leaves_what_was_pushed_and_nothing_else(cluster: Cluster) -> None:
    made = objects(render(VALUES))
    cluster.helm("uninstall", "pxeboot")
    kept = [one["metadata"]["name"] for one in made if cluster.get(one)]
    assert kept == ["pxeboot-lts"]
    assert cluster.admin.get(f"{OURS}/secrets/pxeboot-lts").body["data"]


def test_the_commands_of_the_document_install_it(cluster: Cluster, tmp_path: Path) -> None:
    """docs/helm.md, command by command, where nothing of it is; kubectl and helm are real."""
    wrapper(tmp_path)
    mine = f"{Path(__file__).stem}::test_the_commands_of_the_document_install_it"
    environment = {
        "PATH": ":".join(map(str, (tmp_path, cluster.plane.bin, Path(sys.executable).parent, os.environ["PATH"]))),
        "KUBECONFIG": str(cluster.plane.kubeconfig),
        "HOME": str(tmp_path),
    }
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    blocks = [step for step in steps(ROOT / "docs/helm.md") if step.verb == "file" or step.what == mine]
    assert len(blocks) > 4
    cluster.plane.kubectl("delete", "namespace", NAMESPACE)
    for step in blocks:
        if step.verb == "file":
            (tmp_path / step.what).write_text(step.text)
            continue
        argv = ["sh", "-euc", step.text]
        done = subprocess.run(
            argv, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{step.text}\n{done.stdout}{done.stderr}"
    farm = yaml.safe_load(cluster.admin.get(f"{OURS}/configmaps/pxeboot-farm").body["data"]["farm.yaml"])
    assert [pool["name"] for pool in farm["pools"]] == ["pool-1"]
