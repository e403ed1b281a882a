"""deploy/helm/pxeboot: what Helm itself makes of it, held to the API's schemas, our own rules, and the import."""

import copy
import json
import tempfile
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from config.load import ConfigErrors, load
from config.model import DhcpOptions, Farm
from dhcp.layers import option_bytes
from pxeboot.imports import kubefarm
from pxeboot.imports.found import Source
from tests.support import chart
from tests.support.chart import CHART, ROOT, Object, farm_text, objects, only, render

MINIMAL: Object = {"farm": {"server": {"interfaces": ["eth1"]}}}
NODE = {"name": "m1", "macs": ["52:54:00:12:34:56"], "ip": "10.28.0.5"}
USUAL: Object = {
    "farm": {
        "server": {"interfaces": ["eth1"]},
        "dhcp": {"subnets": [{"subnet": "10.28.0.0/16", "routers": ["10.28.0.1"]}]},
        "pools": [{"name": "workers", "image": "node", "cluster": "here", "nodes": [NODE]}],
    }
}
HASH = "$6$salt$example"


def having(values: Object, *place: str, to: object) -> Object:
    """A copy of values with one of them changed."""
    made = copy.deepcopy(values)
    inner = made
    for key in place[:-1]:
        inner = inner.setdefault(key, {})
    inner[place[-1]] = to
    return made


ALL: dict[str, Object] = {
    "minimal": MINIMAL,
    "usual": USUAL,
    "daemonset": having(USUAL, "kind", to="DaemonSet"),
    "secret": having(USUAL, "farm", "node", to={"root_password_hash": HASH}),
    "pvc": USUAL | {"state": {"type": "pvc"}, "imageStore": {"type": "pvc", "existingClaim": "images"}},
    "empty-dir": USUAL | {"state": {"type": "emptyDir"}, "imageStore": {"type": "hostPath"}},
    "metrics": having(USUAL, "farm", "web", to={"listen": ["0.0.0.0:8067"]})
    | {
        "metrics": {
            "enabled": True,
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "tlsConfig": {"ca": {}}},
            "rules": {"enabled": True, "labels": {"release": "prometheus"}},
            "dashboard": {"enabled": True},
        }
    },
    "push": having(
        USUAL, "farm", "clusters", to={"here": {"lts_conf": "/var/lib/pxeboot-join/here", "push": {"name": "lts"}}}
    ),
    "another-cluster": having(USUAL, "farm", "clusters", to={"prod": {"api_server": "api.prod:6443"}})
    | {"kubeconfigs": {"prod": "prod-credentials"}},
    "everything": USUAL
    | {
        "image": {"digest": f"sha256:{'0' * 64}", "pullSecrets": ["registry"]},
        "podAnnotations": {"a": "b"},
        "podLabels": {"c": "d"},
        "restartOnChange": True,
        "nodeSelector": {"kubernetes.io/hostname": "control-plane-1"},
        "affinity": {"nodeAffinity": {}},
        "extraVolumes": [{"name": "users", "secret": {"secretName": "users"}}],
        "serve": {"extraVolumeMounts": [{"name": "users", "mountPath": "/etc/pxeboot-users"}], "extraEnv": []},
        "controller": {"extraEnv": [{"name": "TZ", "value": "UTC"}]},
        "serviceAccount": {"name": "boots", "annotations": {"e": "f"}},
        "fullnameOverride": "boot",
    },
}


@pytest.fixture(params=ALL, name="found")
def _found(request: pytest.FixtureRequest) -> list[Object]:
    return objects(render(ALL[request.param]))


def container(found: list[Object], name: str) -> Object:
    kind = next(one["kind"] for one in found if one["kind"] in ("Deployment", "DaemonSet"))
    listed = only(found, kind)["spec"]["template"]["spec"]["containers"]
    (one,) = [one for one in listed if one["name"] == name]
    assert isinstance(one, dict)
    return one


def farm_of(values: Object, folder: Path) -> Farm:
    """The farm that the pods of these values serve."""
    path = folder / "farm.yaml"
    path.write_text(farm_text(objects(render(values))))
    return load(path)


# It is a good chart.


def test_lint_finds_nothing() -> None:
    said = helm_python.lint(CHART, USUAL, strict=True)
    assert not said["errors"]
    assert [one["error"] for one in said["messages"]] == ["icon is recommended"]


def test_lint_says_of_no_values_what_is_missing_and_does_not_fail() -> None:
    """As in a registry of charts, where it is looked at with its defaults."""
    assert not helm_python.lint(CHART)["errors"]


def test_every_object_is_one_that_the_api_knows() -> None:
    """Each of those that differ, once: to look one up in the API's schemas takes a while."""
    different = {json.dumps(one): one for values in ALL.values() for one in objects(render(values))}
    for one in different.values():
        if one["apiVersion"] != "monitoring.coreos.com/v1":
            kubernetes_validate.validate(one, "1.37", strict=True)


def test_no_name_is_used_twice(found: list[Object]) -> None:
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in found]
    assert len(names) == len(set(names))


def test_every_object_says_whose_it_is(found: list[Object]) -> None:
    for one in found:
        assert one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == "pxeboot"


@pytest.mark.parametrize("name", ALL)
def test_what_the_pods_get_is_a_farm(name: str, tmp_path: Path) -> None:
    assert farm_of(ALL[name], tmp_path).server.interfaces == ("eth1",)


def test_what_is_made_of_other_files_is_current() -> None:
    for path, text in chart.made().items():
        assert path.read_text() == text, f"{path.relative_to(ROOT)}: run python -m tests.support.chart"


def test_the_chart_can_be_packaged_and_is_the_same(tmp_path: Path) -> None:
    archive = helm_python.package(CHART, destination=tmp_path)
    with helm_python.Chart.load(archive) as loaded:
        again = loaded.render(USUAL, name="pxeboot", namespace="pxeboot")
    assert {path.removeprefix("pxeboot/templates/"): text for path, text in again.items()} == render(USUAL)


def test_the_chart_has_the_version_of_the_package() -> None:
    with helm_python.Chart.load(CHART) as loaded:
        text = (ROOT / "setup.cfg").read_text()
        assert f"version = {loaded.metadata['appVersion']}\n" in text


# Values.


WRONG = [
    pytest.param({"knid": "Deployment"}, "knid", id="unknown-key"),
    pytest.param({"kind": "StatefulSet"}, "kind", id="kind"),
    pytest.param({"image": {"digest": "latest"}}, "/image/digest", id="digest"),
    pytest.param({"farm": {"server": {"interfaces": "eth1"}}}, "/farm/server/interfaces", id="farm-type"),
    pytest.param({"farm": {"pols": []}}, "pols", id="farm-key"),
    pytest.param({"farm": {"pools": [{"name": "w"}]}}, "/farm/pools/0", id="farm-lacks"),
    pytest.param({"nodePools": [{"nodes": [{"name": "m1", "mac": "nonsense", "ip": "10.0.0.1"}]}]}, "/mac", id="mac"),
    pytest.param({"nodePools": [{"nodes": [{"name": "m1", "mac": "52:54:00:00:00:01"}]}]}, "ip", id="no-ip"),
    pytest.param({"tags": {"gpu": {"labels": {}}}}, "gpu", id="tags-of-a-farm"),
    pytest.param({"tags": {"kubernetesTaints": {"a": [{"key": "k", "effect": "No"}]}}}, "effect", id="taint"),
    pytest.param({"ltsp": {"config": {"timzone": "UTC"}}}, "timzone", id="ltsp-config"),
    pytest.param({"state": {"type": "nfs"}}, "/state/type", id="state"),
    pytest.param({"controller": {"runAsUser": 0}}, "/controller/runAsUser", id="controller-as-root"),
]


@pytest.mark.parametrize(("values", "place"), WRONG)
def test_wrong_values_are_refused_with_their_place(values: Object, place: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as refused:
        render(USUAL | values)
    assert place in str(refused.value)


IMPOSSIBLE = [
    pytest.param({}, "farm.server.interfaces: say which", id="no-interface"),
    pytest.param(
        having(USUAL, "farm", "dhcp", "subnets", to=[{"subnet": "10.0.0.0/24", "pool": "10.0.0.9-10.0.0.99"}])
        | {"kind": "DaemonSet"},
        "10.0.0.0/24 has a pool, and a DaemonSet is several servers",
        id="unshared-pool",
    ),
    pytest.param(USUAL | {"kind": "DaemonSet", "state": {"type": "pvc"}}, "state.type: one claim", id="one-claim"),
    pytest.param(USUAL | {"imageStore": {"type": "pvc"}}, "imageStore.existingClaim", id="no-claim"),
    pytest.param(USUAL | {"metrics": {"enabled": True}}, "set farm.web.listen", id="metrics-at-loopback"),
    pytest.param(
        having(MINIMAL, "farm", "web", to={"listen": []}) | {"metrics": {"enabled": True}},
        "set farm.web",
        id="metrics-without-a-page",
    ),
    pytest.param(USUAL | {"kubeconfigs": {"prod": "secret"}}, "farm.clusters has no prod", id="whose-kubeconfig"),
    pytest.param(having(USUAL, "farm", "server", "control", to="/run/x"), "farm.server.control: leave", id="socket"),
    pytest.param(USUAL | {"serviceAccount": {"create": False}}, "serviceAccount.name: say which", id="no-account"),
]


@pytest.mark.parametrize(("values", "said"), IMPOSSIBLE)
def test_what_cannot_work_is_refused_in_words(values: Object, said: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        render(values)
    assert said in str(refused.value)


def test_a_daemonset_may_share_its_pool(tmp_path: Path) -> None:
    values = having(USUAL, "farm", "dhcp", "subnets", to=[{"subnet": "10.0.0.0/24", "pool": "10.0.0.9-10.0.0.99"}])
    values = having(values, "farm", "dhcp", "shared", to="here") | {"kind": "DaemonSet"}
    values["farm"]["pools"] = []
    assert farm_of(values, tmp_path).dhcp.shared == "here"


def test_numbers_and_words_reach_the_farm_as_they_were_written(tmp_path: Path) -> None:
    values = having(USUAL, "farm", "dhcp", "longest_lease_s", to=31536000)
    values["farm"]["node"] = {"sysctls": {"fs.file-max": 12000000, "kernel.pid_max": "4194304"}}
    values["farm"]["tags"] = {"a": {"labels": {"on": "yes", "n": "1e6", "z": "007"}}}
    farm = farm_of(values, tmp_path)
    assert farm.dhcp.longest_lease_s == 31536000
    assert farm.node.sysctls == {"fs.file-max": "12000000", "kernel.pid_max": "4194304"}
    assert farm.tags["a"].labels == {"on": "yes", "n": "1e6", "z": "007"}
    assert farm.pools[0].nodes[0].macs == ("52:54:00:12:34:56",)


# The pods.


def test_the_server_has_two_capabilities_and_nothing_else(found: list[Object]) -> None:
    context = container(found, "serve")["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "NET_RAW"]}
    assert context["readOnlyRootFilesystem"]
    assert context["allowPrivilegeEscalation"] is False


def test_the_controller_has_no_capability_and_is_not_root() -> None:
    context = container(objects(render(USUAL)), "controller")["securityContext"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["runAsNonRoot"]
    assert context["readOnlyRootFilesystem"]
    assert context["allowPrivilegeEscalation"] is False


def test_credentials_reach_the_controller_alone() -> None:
    for name in ("usual", "another-cluster"):
        found = objects(render(ALL[name]))
        pod = only(found, "Deployment")["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        secret = {
            volume["name"]
            for volume in pod["volumes"]
            if volume["name"].startswith("kubeconfig-")
            or any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", ()))
        }
        assert secret
        assert not secret & {mount["name"] for mount in container(found, "serve")["volumeMounts"]}
        assert secret <= {mount["name"] for mount in container(found, "controller")["volumeMounts"]}


def test_the_farm_is_mounted_as_a_folder_that_follows_its_object(found: list[Object]) -> None:
    for one in found:
        if one["kind"] in ("Deployment", "DaemonSet"):
            for mounted in one["spec"]["template"]["spec"]["containers"]:
                assert not [mount for mount in mounted["volumeMounts"] if "subPath" in mount]


def test_a_farm_with_a_secret_in_it_is_kept_in_a_secret() -> None:
    by_hash = objects(render(ALL["secret"]))
    command = {"edge": {"command": "k3s agent --server https://10.28.0.20:6443"}}
    by_command = objects(render(having(MINIMAL, "farm", "clusters", to=command)))
    by_kubefarm = objects(render(MINIMAL | {"ltsp": {"config": {"rootPasswd": HASH}}}))
    asked = objects(render(USUAL | {"farmInSecret": True}))
    for found in (by_hash, by_command, by_kubefarm, asked):
        only(found, "Secret")
        assert not [one for one in found if one["kind"] == "ConfigMap"]
        assert HASH not in json.dumps([one for one in found if one["kind"] != "Secret"])
    only(objects(render(USUAL)), "ConfigMap")


def test_there_is_a_controller_where_a_cluster_needs_one() -> None:
    names = [
        one["name"] for one in only(objects(render(MINIMAL)), "Deployment")["spec"]["template"]["spec"]["containers"]
    ]
    assert names == ["serve"]
    command = {"edge": {"command": "k3s agent --server https://10.28.0.20:6443"}}
    found = objects(render(having(MINIMAL, "farm", "clusters", to=command)))
    assert not [one for one in found if one["kind"] in ("Role", "ClusterRole", "ServiceAccount")]


@pytest.mark.parametrize(
    ("listen", "tls", "host", "port", "scheme"),
    [
        pytest.param(None, False, "127.0.0.1", 8067, "HTTP", id="default"),
        pytest.param(["0.0.0.0:9000"], False, "127.0.0.1", 9000, "HTTP", id="everywhere"),
        pytest.param(["[::]:9000"], False, "::1", 9000, "HTTP", id="everywhere-6"),
        pytest.param(["[fd00::1]:443", "127.0.0.1:80"], True, "fd00::1", 443, "HTTPS", id="tls"),
    ],
)
def test_the_kubelet_asks_where_the_page_is(
    listen: list[str] | None, tls: bool, host: str, port: int, scheme: str
) -> None:
    web: Object = ({"listen": listen} if listen else {}) | (
        {"tls": {"certificate": "/c/tls.crt", "key": "/c/tls.key"}} if tls else {}
    )
    one = container(objects(render(having(USUAL, "farm", "web", to=web))), "serve")
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert one[probe]["httpGet"] == {"host": host, "port": port, "path": path, "scheme": scheme}


def test_without_a_page_nothing_is_probed() -> None:
    one = container(objects(render(having(USUAL, "farm", "web", to={"listen": []}))), "serve")
    assert not [key for key in one if key.endswith("Probe")]


def test_what_prometheus_asks_is_what_the_containers_serve() -> None:
    found = objects(render(ALL["metrics"]))
    ports = {one["name"]: one["port"] for one in only(found, "Service")["spec"]["ports"]}
    assert ports == {"metrics": 8067, "controller": 8068}
    assert [one["port"] for one in only(found, "ServiceMonitor")["spec"]["endpoints"]] == [*ports]
    controller = container(found, "controller")
    assert controller["args"][-2:] == ["--metrics", "0.0.0.0:8068"]
    assert controller["livenessProbe"]["httpGet"]["port"] == 8068
    assert "--metrics" not in container(objects(render(USUAL)), "controller")["args"]


def test_alerts_and_dashboard_are_those_of_deploy_monitoring() -> None:
    found = objects(render(ALL["metrics"]))
    alerts = yaml.safe_load((ROOT / "deploy/monitoring/alerts.yaml").read_text())
    assert only(found, "PrometheusRule")["spec"] == alerts
    dashboard = only(found, "ConfigMap", "pxeboot-dashboard")["data"]["pxeboot.json"]
    assert dashboard == (ROOT / "deploy/monitoring/grafana-dashboard.json").read_text()


def pod(values: Object) -> Object:
    template = only(objects(render(values)), "Deployment")["spec"]["template"]
    assert isinstance(template, dict)
    return template


def test_a_changed_farm_restarts_pods_as_often_as_it_is_told_to() -> None:
    other = having(USUAL, "farm", "dhcp", "lease_s", to=600)
    assert pod(USUAL) == pod(other)
    assert pod(USUAL | {"restartOnChange": True}) != pod(other | {"restartOnChange": True})
    logged = having(USUAL, "farm", "log", to={"format": "json"})
    assert pod(USUAL | {"restartOnChange": False}) == pod(logged | {"restartOnChange": False})


KEPT = [
    pytest.param(("server", "http_port"), 8080, id="port"),
    pytest.param(("server", "state"), "/var/lib/other", id="state"),
    pytest.param(("log",), {"format": "json"}, id="log"),
    pytest.param(("machine_logs",), {"syslog_port": 514}, id="syslog"),
    pytest.param(("tftp", "single_port"), True, id="single-port"),
    pytest.param(("dhcp", "shared"), "here", id="shared"),
    pytest.param(("http", "tls"), {"certificate": "/c/crt", "key": "/c/key"}, id="tls"),
    pytest.param(("nbd", "nbdkit"), {"port": 10811}, id="nbdkit"),
]


@pytest.mark.parametrize(("place", "value"), KEPT)
def test_what_a_running_server_keeps_restarts_it(place: tuple[str, ...], value: object) -> None:
    assert pod(USUAL) != pod(having(USUAL, "farm", *place, to=value))


def test_a_certificate_that_moves_restarts_nothing() -> None:
    first = having(USUAL, "farm", "http", to={"tls": {"certificate": "/c/crt", "key": "/c/key"}})
    assert pod(first) == pod(having(first, "farm", "http", "tls", "certificate", to="/d/crt"))


def test_files_of_the_farm_lie_beside_it(tmp_path: Path) -> None:
    values = having(USUAL, "farm", "node", to={"files": {"bond.sh": {"from": "bond.sh"}}})
    values["farmFiles"] = {"bond.sh": "#!/bin/sh\n: {{ not a template }}\n"}
    (tmp_path / "bond.sh").touch()
    data = only(objects(render(values)), "ConfigMap")["data"]
    assert data["bond.sh"] == "#!/bin/sh\n: {{ not a template }}\n"
    assert farm_of(values, tmp_path).node.files["bond.sh"].from_ == tmp_path / "bond.sh"


# Rights.


def rules(found: list[Object]) -> list[Object]:
    """Roles, and who has them, without what Helm adds."""
    kinds = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    chosen = [copy.deepcopy(one) for one in found if one["kind"] in kinds]
    for one in chosen:
        one["metadata"].pop("labels", None)
    return sorted(chosen, key=lambda one: (one["kind"], one["metadata"]["name"]))


def deployed(*names: str) -> list[Object]:
    texts = [(ROOT / "deploy/kubernetes" / name).read_text() for name in names]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def test_its_rights_are_those_of_deploy_kubernetes() -> None:
    assert rules(objects(render(USUAL))) == rules(deployed("rbac.yaml"))


def test_with_push_they_are_too_and_the_object_is_there() -> None:
    found = objects(render(having(ALL["push"], "farm", "clusters", "here", "push", to={"name": "pxeboot-lts"})))
    assert rules(found) == rules(deployed("rbac.yaml", "rbac-push.yaml"))
    kept = only(found, "Secret", "pxeboot-lts")
    assert "data" not in kept
    assert kept["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_in_another_namespace_the_rights_go_along() -> None:
    found = objects(render(USUAL, "farm", "boot"))
    text = json.dumps(rules(found))
    assert '"namespace": "pxeboot"' not in text
    account = only(found, "ServiceAccount")["metadata"]
    assert (account["name"], account["namespace"]) == ("farm-pxeboot-controller", "boot")
    assert yaml.safe_load(farm_text(found))["clusters"] == {"here": {"namespace": "boot"}}
    assert only(found, "Role", "farm-pxeboot-controller-leases")["metadata"]["namespace"] == "boot"


# Kubefarm's values.


def example(name: str) -> str:
    return (ROOT / "tests/data/helm" / name).read_text()


EXAMPLES = sorted(path.name for path in (ROOT / "tests/data/helm").glob("kubefarm-*.yaml"))


def comparable(farm: Farm) -> Object:
    """What Kubefarm's values decide of a farm, DHCP options as they are on the wire."""

    def told(options: DhcpOptions) -> object:
        return sorted((int(code), data.hex()) for code, data in option_bytes(options).items()), options.lease_s

    return {
        "subnets": {
            str(one.subnet): (str(one.pool), [(str(p.range), told(p)) for p in one.pools], one.unknown, told(one))
            for one in farm.dhcp.subnets
        },
        "pools": {
            pool.name: (pool.image, pool.tags, [(told(n.dhcp), n.model_dump(exclude={"dhcp"})) for n in pool.nodes])
            for pool in farm.pools
        },
        "tags": {
            name: (told(tag.dhcp), {k: v.split() for k, v in tag.lts.items()}, tag.labels, set(tag.taints))
            for name, tag in farm.tags.items()
        },
        "words": {name: sorted(tag.kernel_parameters) for name, tag in farm.tags.items()},
        "node": farm.node.model_dump(exclude={"files"}),
        "files": {
            path: (json.loads(one.content or "") if path.endswith(".json") else one.content, one.mode)
            for path, one in farm.node.files.items()
        },
    }


def sorted_units(found: Object) -> Object:
    """Units to disable are a set: Helm knows no order of a mapping's keys."""
    for _, lts, *_ in found["tags"].values():
        for key in lts:
            lts[key] = sorted(lts[key]) if key == "RM_SYSTEM_SERVICES" else lts[key]
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_kubefarms_values_come_to_what_the_import_makes_of_them(name: str, tmp_path: Path) -> None:
    text = example(name)
    mine = farm_of(helm_python.values_from_yaml(text) | MINIMAL, tmp_path)
    imported = tmp_path / "imported.yaml"
    imported.write_text(yaml.safe_dump(kubefarm.read(Source(name, text)).farm))
    assert sorted_units(comparable(mine)) == sorted_units(comparable(load(imported)))


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_lost_of_kubefarms_values_is_told_as_by_the_import(name: str) -> None:
    text = example(name)
    notes = render(helm_python.values_from_yaml(text) | MINIMAL)["NOTES.txt"]
    lost = [one for one in kubefarm.read(Source(name, text)).left if one.lost]
    assert ("NOT in the farm" in notes) == bool(lost)


@st.composite
def kubefarm_values(draw: st.DrawFn) -> Object:
    """Pools whose networks do not overlap, each with a range, machines in it, and options by name and by number."""
    pools: list[Object] = []
    for number in range(draw(st.integers(1, 4))):
        length = draw(st.integers(16, 29))
        first = (10 << 24) + (number << 16)
        network = ip_network((first + (draw(st.integers(0, 65535)) >> (32 - length) << (32 - length)), length))
        # All but the network's own address and broadcast address, in order.
        inside = sorted(draw(st.sets(st.integers(1, network.num_addresses - 2), min_size=4, max_size=4)))
        low, high, *listed = (str(network[offset]) for offset in inside)
        words = draw(st.sampled_from([[str(network[0]), "static"], [low, high], ["set:x", low, high]]))
        words += [str(network.netmask), *draw(st.sampled_from([[], [str(network.broadcast_address)]]))]
        words += draw(st.lists(st.sampled_from(["infinite", "90", "45m", "12H", "2d", "1w", "3000w"]), max_size=1))
        lease = draw(st.sampled_from([None, "12h", 600, "infinite"]))
        nodes: list[Object] = [
            {"name": f"m{number}-{n}", "mac": f"52:54:00:00:{number:02x}:{n:02x}", "ip": ip}
            | ({} if lease is None else {"leaseTime": lease})
            for n, ip in enumerate(listed)
        ]
        pools.append({"range": ",".join(words), "nodes": nodes, "tags": draw(st.lists(TAG, max_size=2, unique=True))})
    return {
        "nodePools": pools,
        "tags": {
            "dhcpOptions": draw(
                st.dictionaries(TAG, st.dictionaries(st.sampled_from([*TOLD]), st.none(), max_size=4))
            ),
            "ltspOptions": draw(st.dictionaries(TAG, st.dictionaries(LTSP_KEY, LTSP_VALUE, max_size=4))),
            "kubernetesLabels": draw(st.dictionaries(TAG, st.dictionaries(LABEL, LABEL, max_size=2))),
        },
    }


TAG = st.sampled_from(["all", "gpu", "debug"])
LABEL = st.from_regex("[a-z]([a-z0-9]{0,5}[a-z0-9])?", fullmatch=True)
TOLD: dict[str, object] = {
    "router": "10.0.0.1, 10.0.0.2",
    "dns-server": "10.0.0.1",
    "mtu": 9000,
    "domain-name": "example.org",
    "domain-search": "a.example.org,example.org",
    "broadcast": "10.255.255.255",
    "ntp-server": "10.0.0.9",
    "classless-static-route": "10.96.0.0/12,10.0.0.3",
    "tftp-server": "boot.example.org",
    "42": "10.0.0.7",
    "150": "10.0.0.5,10.0.0.6",
    "netbios-nodetype": 8,
    "time-offset": -3600,
    "224": "hall 4",
    "225": "10.0.0.1,10.0.0.2",
    "226": 255,
    "227": "256",
    "228": 65536,
    "229": "a:4d:01",
    "230": "0x0a4d",
    "231": "a,b",
    "232": "007",
}
LTSP_KEY = st.sampled_from(
    [
        *("MODULE_KUBELET", "CRONTAB_01", "POST_INIT_A", "PRE_INIT_B", "PRE_SERVICE_C", "POST_SERVICE_D", "ANYTHING"),
        *("KERNEL_PARAMETERS", "DEBUG_SHELL", "KEEP_SYSTEM_SERVICES", "MASK_SYSTEM_SERVICES", "MENU_TIMEOUT"),
        *("OMIT_FUNCTIONS", "HOSTNAME", "PASSWORDS_x", "lower"),
    ]
)
LTSP_VALUE = st.sampled_from(["1", "0", " two  words ", ". /etc/ltsp/a.sh", "echo $IP_ADDRESS", "${IPCONFIG_X}y", ""])


@settings(max_examples=25, deadline=None, phases=(Phase.explicit, Phase.generate))  # to shrink takes minutes
@given(kubefarm_values())
def test_any_values_of_kubefarm_come_to_what_the_import_makes_of_them(values: Object) -> None:
    for options in values["tags"]["dhcpOptions"].values():
        options |= {name: TOLD[name] for name in options}
        if {"ntp-server", "42"} <= {*options}:
            del options["42"]  # which of two wins, the order decides that Helm does not know
    text = json.dumps(values)  # which is YAML, and every text in it is quoted
    with tempfile.TemporaryDirectory() as folder:
        mine = farm_of(helm_python.values_from_yaml(text) | MINIMAL, Path(folder))
        imported = Path(folder) / "imported.yaml"
        imported.write_text(yaml.safe_dump(kubefarm.read(Source("values", text)).farm))
        assert sorted_units(comparable(mine)) == sorted_units(comparable(load(imported)))


def test_machines_of_kubefarm_join_the_cluster_of_the_chart(tmp_path: Path) -> None:
    values = helm_python.values_from_yaml(example("kubefarm-generic.yaml")) | MINIMAL
    farm = farm_of(values, tmp_path)
    assert {pool.cluster for pool in farm.pools} == {"here"}
    assert farm.images["node"].path == Path("/srv/pxeboot/images/node")
    nowhere = farm_of(values | {"tokenGenerator": {"enabled": False}}, tmp_path)
    assert {pool.cluster for pool in nowhere.pools} == {None}
    assert not nowhere.clusters


def test_a_farms_own_words_win_over_kubefarms(tmp_path: Path) -> None:
    values: Object = helm_python.values_from_yaml(example("kubefarm-generic.yaml"))
    values["farm"] = {
        "server": {"interfaces": ["eth1"]},
        "node": {"timezone": "Etc/UTC"},
        "pools": [{"name": "more", "image": "node", "nodes": [NODE | {"macs": ["52:54:00:00:00:01"]}]}],
        "tags": {"all": {"kernel_parameters": ["quiet"]}},
    }
    farm = farm_of(values, tmp_path)
    assert farm.node.timezone == "Etc/UTC"
    assert farm.node.ssh_authorized_keys
    assert [pool.name for pool in farm.pools] == ["more", "pool-1", "pool-2"]
    assert farm.tags["all"].kernel_parameters == ("quiet",)
    assert farm.tags["all"].dhcp.routers


LISTED = {"name": "a", "mac": "52:54:00:00:00:01", "ip": "10.0.0.1"}


def node_pool(**more: Any) -> Object:
    return MINIMAL | {"nodePools": [more]}


REFUSED = [
    pytest.param(node_pool(range="172.16.0.0,static,infinite"), "range: it does not say its netmask", id="mask"),
    pytest.param(node_pool(nodes=[LISTED]), "no range says the network", id="homeless"),
    pytest.param(
        node_pool(nodes=[{"name": "m1", "ip": "10.0.0.1"}]), "known by its mac or its clientID", id="unknowable"
    ),
    pytest.param(node_pool(range="10.0.0.9,10.0.0.99,255.255.0.255"), "is no netmask", id="no-netmask"),
    pytest.param(
        node_pool(range="10.0.0.0,10.0.0.99,255.255.255.0"), "cannot have all of 10.0.0.0-10.0.0.99", id="edge"
    ),
    pytest.param(node_pool(range="fd00::1,fd00::9,64"), "neither an IPv4 address nor a lease time", id="ipv6"),
    pytest.param(
        node_pool(range="10.0.0.0,static,255.255.255.0", nodes=[LISTED] * 2),
        "nodePools[0].nodes[1]: there is already a machine named a",
        id="twice",
    ),
    pytest.param(
        node_pool(extraOpts=[{"dhcp-range": "set:?,192.168.11.1,192.168.11.9,255.255.255.0"}]),
        "nodePools[0].extraOpts[0]: only a range of one address",
        id="range-of-a-port",
    ),
]


@pytest.mark.parametrize(("values", "said"), REFUSED)
def test_a_machine_or_network_that_would_be_lost_is_refused(values: Object, said: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        render(values)
    assert said in str(refused.value)


def test_a_network_may_be_said_in_the_farm(tmp_path: Path) -> None:
    values = having(
        node_pool(range="172.16.0.0,static,infinite"), "farm", "dhcp", "subnets", to=[{"subnet": "172.16.0.0/20"}]
    )
    assert [str(one.subnet) for one in farm_of(values, tmp_path).dhcp.subnets] == ["172.16.0.0/20"]


def test_a_farm_that_the_schema_cannot_judge_is_refused_by_the_daemon(tmp_path: Path) -> None:
    twice = having(USUAL, "farm", "pools", to=[{"name": "w", "image": "node", "nodes": [NODE, NODE | {"name": "m2"}]}])
    with pytest.raises(ConfigErrors, match="already belongs to m1"):
        farm_of(twice, tmp_path)
