"""What of a changed farm has to wait for a restart, and what does not."""

from typing import Any

import pytest

from config.model import Farm
from pxeboot.reloading.fixed import kept

TLS = {"certificate": "/c", "key": "/k"}
SERVER = {"interfaces": ["eth1"]}

FIXED = [
    pytest.param({"server": {**SERVER, "http_port": 8080}},
                 ["server.http_port: 8080 in the file, 80 until a restart"], id="http_port"),
    pytest.param({"server": {**SERVER, "state": "/x"}},
                 ["server.state: /x in the file, /var/lib/pxeboot until a restart"], id="state"),
    pytest.param({"tftp": {"single_port": True}},
                 ["tftp.single_port: true in the file, false until a restart"], id="single_port"),
    pytest.param({"web": {"listen": ["0.0.0.0:80"]}},
                 ["web.listen: 0.0.0.0:80 in the file, 127.0.0.1:8067 until a restart"], id="web"),
    pytest.param({"http": {"tls": TLS}},
                 ["http.tls: certificate=/c, key=/k in the file, none until a restart"], id="tls-new"),
    pytest.param({"nbd": {"nbdkit": {"port": 99}}},
                 ["nbd.nbdkit.port: 99 in the file, 10810 until a restart"], id="nbdkit"),
    pytest.param({"machine_logs": {"syslog_port": 514}},
                 ["machine_logs.syslog_port: 514 in the file, none until a restart"], id="syslog"),
    pytest.param({"images": {"a": {"path": "/a", "engine": "nbdkit"}}},
                 ["images.a.engine: nbdkit begins to run at a restart; pxeboot serves it until then"], id="engine"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "lines"), FIXED)
def test_a_setting_that_waits_for_a_restart_is_said_and_keeps_its_value(
    change: dict[str, Any], lines: list[str]
) -> None:
    running = Farm.model_validate({"server": SERVER})
    served, said = kept(running, Farm.model_validate({"server": SERVER, **change}), nbdkit=False)
    assert list(said) == lines
    if "images" not in change:
        assert served == running


FOLLOWED = [
    pytest.param({"web": {"users": "/users", "read": "users"}}, id="web"),
    pytest.param({"server": {"interfaces": ["eth2"], "address": "10.0.0.9", "files": "/f"}}, id="server"),
    pytest.param({"dhcp": {"lease_s": 600, "subnets": [{"subnet": "10.0.0.0/8"}]}}, id="dhcp"),
    pytest.param({"tftp": {"windowsize": 4}}, id="tftp"),
    pytest.param({"http": {"downloads": 3, "tls": {**TLS, "certificate": "/other"}}}, id="http"),
    pytest.param({"nbd": {"access": "known", "tls": {**TLS, "mode": "offered"}}}, id="nbd"),
    pytest.param({"lts_conf": "/lts", "clusters": {"c": {"lts_conf": "/lts"}}, "tags": {"all": {}}}, id="rest"),
]


@pytest.mark.parametrize("change", FOLLOWED)
def test_everything_else_is_served_at_once(change: dict[str, Any]) -> None:
    tls = {"http": {"tls": TLS}, "nbd": {"tls": TLS}}
    running = Farm.model_validate({"server": SERVER, **tls})
    wanted = Farm.model_validate({"server": SERVER, **tls, **change})
    assert kept(running, wanted, nbdkit=False) == (wanted, ())


def test_nbdkit_goes_on_with_the_certificate_that_it_was_told_of() -> None:
    running = Farm.model_validate({"nbd": {"tls": TLS}})
    wanted = Farm.model_validate({"nbd": {"tls": {**TLS, "key": "/other"}}})
    served, said = kept(running, wanted, nbdkit=True)
    assert served == running
    assert said == ("nbd.tls.key: /other in the file, /k until a restart",)


def test_a_port_of_tls_waits_while_its_files_do_not() -> None:
    running = Farm.model_validate({"http": {"tls": TLS}})
    wanted = Farm.model_validate({"http": {"tls": {**TLS, "key": "/other", "port": 8443}}})
    served, said = kept(running, wanted, nbdkit=False)
    assert served == Farm.model_validate({"http": {"tls": {**TLS, "key": "/other", "port": 443}}})
    assert said == ("http.tls.port: 8443 in the file, 443 until a restart",)
