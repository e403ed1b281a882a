"""What a machine of the seed farm (`tests.support.lab.SEED_LTS_CONF`, with the tag `gpu`) must have become."""

from collections.abc import Mapping

from pxeboot.cli.token import tokens
from pxeboot.controller.token import FORM
from pxeboot.image.store import open_image
from tests.support.lab import IMAGES, Lab

OF_CLUSTER = ["token", "fetched", "approved", "registered", "ready"]


def check_report(report: Mapping[str, str], name: str, ip: str) -> None:
    """Check what it says of itself."""
    image = open_image(IMAGES / "node")
    assert report["hostname"] == name
    assert report["image"] == image.image_id
    assert report["sha256"] == image.squashfs_sha256
    assert f"pxeboot.image={image.image_id}" in report["cmdline"].split()
    assert "farm.gpu=1" in report["cmdline"].split()
    assert f"{ip}/24" in report["addresses"]
    # the tag's DHCP option 26, on the card that booted
    assert ["mtu 1450" in line for line in report["links"].splitlines() if "state UP" in line] == [True]
    mounts = {line.split()[1]: line.split() for line in report["mounts"].splitlines()}
    assert mounts["/"][2] == "overlay"
    assert mounts["/"][3].startswith("rw,")
    assert mounts["/run/pxeboot/lower"][2] == "squashfs"
    # FSTAB_*
    assert mounts["/var/lib/docker"][2] == "tmpfs"
    assert "mode=700" in mounts["/srv/ssh"][3]
    assert report["fstab"].splitlines()[1:] == [
        "tmpfs /srv/ssh tmpfs mode=0700 0 0",
        "tmpfs /var/lib/docker tmpfs size=64m 0 0",
    ]
    # HOSTS_*, CRONTAB_*, MODULE_*
    hosts = report["hosts"].splitlines()
    assert "10.77.0.1 api.farm.example" in hosts
    assert f"{ip} {name}" in hosts
    assert "30 12 * * * root true" in report["crontab"]
    assert "dummy" in report["modules"].split()
    # PREINIT_* came after the settings, and so won: the time zone is the seed's, not the farm's
    assert report["timezone"] == "/usr/share/zoneinfo/Etc/GMT"
    # KEEP_SYSTEM_SERVICES over RM_SYSTEM_SERVICES; a unit that came as a file; our own
    enabled = report["enabled"].split()
    assert "multi-user.target.wants/cron.service" in enabled
    assert "multi-user.target.wants/hello.service" in enabled
    assert "multi-user.target.wants/e2scrub_reap.service" not in enabled
    assert not [unit for unit in enabled if "apt-daily" in unit]
    # files with their modes, keys, labels and taints
    assert "755 /etc/pxeboot/network.sh" in report["files"]
    assert report["ssh-keys"] == "1"
    assert report["kubelet"] == (
        'KUBELET_EXTRA_ARGS="--node-labels=accelerator=nvidia --register-with-taints=gpu=true:NoSchedule"'
    )
    assert "vm.max_map_count = 262144" in report["sysctl"]
    assert report["failed"] == ""


def check_join(lab: Lab, name: str, ip: str) -> None:
    """The machine joined with a token of its own, which nobody saw, and which is gone now."""
    lab.wait_stage(name, "ready")
    steps = {step["stage"]: step["detail"] for step in lab.steps(name)}
    assert steps["joining"].startswith(
        "kubeadm join 10.77.0.1:6443 --token *** --discovery-token-ca-cert-hash sha256:"
    )
    stages = lab.stages(name)
    assert [stage for stage in stages if stage in OF_CLUSTER] == OF_CLUSTER, lab.story(name)
    assert f"node '{name}' joined from {ip}" in lab.log("kube")
    assert "accelerator=nvidia" in lab.log("kube")
    lab.wait(lambda: tokens(lab.controller) == [], "the token is deleted")
    assert "kubeadm join" not in (lab.folder / "lts.conf").read_text()
    for text in (*map(lab.log, ("serve", "controller", "kube")), str(lab.machine(name))):
        assert not FORM.search(text), "a token is where people read"
