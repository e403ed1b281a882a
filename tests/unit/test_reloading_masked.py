"""A farm leaves the daemon without its secrets, and can still be compared."""

import json
from pathlib import Path

from config.load import load
from config.model import Farm
from pxeboot.reloading.masked import dump, masked

EXAMPLE = Path(__file__).parents[2] / "docs/farm.example.yaml"
HASH = "$6$saltsalt$Zm9vYmFyYmF6"
COMMAND = "k3s agent --token K10secret::{token}"

SECRETIVE = Farm.model_validate(
    {
        "node": {
            "root_password_hash": HASH,
            "files": {"key": {"content": "PRIVATE KEY"}, "copy": {"from": "/etc/copied"}},
        },
        "tags": {"all": {"lts": {"RCFILE_07_JOIN": "kubeadm join --token abcdef.0123456789abcdef"}}},
        "clusters": {"c": {"command": COMMAND, "token_file": "/token"}, "d": {"command": "plain secret"}},
        "images": {"node": {"path": "/srv/node"}},
        "dhcp": {
            "subnets": [{"subnet": "10.0.0.0/8", "pool": "10.0.0.10-10.0.0.20", "options": {"tftp-server": "x"}}]
        },
        "pools": [
            {
                "name": "w",
                "image": "node",
                "nodes": [{"name": "m1", "macs": ["52:54:00:00:00:01"], "ip": "10.0.0.1", "dhcp": {"mtu": 9000}}],
            }
        ],
    }
)


def test_what_is_dumped_holds_no_secret() -> None:
    text = json.dumps(dump(SECRETIVE))
    for secret in (HASH, "PRIVATE", "abcdef.0123456789abcdef", "K10secret", "plain secret"):
        assert secret not in text


def test_what_is_dumped_is_the_masked_farm() -> None:
    assert Farm.model_validate(json.loads(json.dumps(dump(SECRETIVE)))) == masked(SECRETIVE)


def test_the_example_survives_being_dumped() -> None:
    farm = load(EXAMPLE)
    again = Farm.model_validate(json.loads(json.dumps(dump(farm))))
    assert again == masked(farm)
    assert masked(again) == again


def test_a_secret_that_changed_has_another_digest() -> None:
    other = SECRETIVE.model_copy(update={"node": SECRETIVE.node.model_copy(update={"root_password_hash": HASH + "x"})})
    assert masked(other) != masked(SECRETIVE)
