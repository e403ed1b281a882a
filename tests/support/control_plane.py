"""A real control plane, as an ordinary kubeadm cluster has it: etcd, kube-apiserver and kube-controller-manager 1.20.

kubeadm itself makes the certificates, the credentials, the command lines (those of its static pods, run here as
processes) and what it leaves in the cluster for machines that join. It starts in some seconds and takes 700 MB, so
that a module of tests shares one.

>>> with ControlPlane(tmp_path) as plane:                                                   # doctest: +SKIP
...     plane.kubectl("get", "namespaces")

Without a `host` it listens on a loopback address of its own, and a test can talk to it from its own process. With one
(see `tests.support.segment`) it runs in that machine's namespace, and the others on the segment can reach it.

What differs from kubeadm's cluster: no kubelet and no scheduler (no pods run; kube-proxy's never leave Pending), no
leader election of the controllers, and the Node of the control plane itself is not there.
"""

import fcntl
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import yaml

from tests.support.segment import CommandFailed, Host, lacking

ROOT = Path(__file__).parents[2]
ETCD = ROOT / ".build/peers/usr/bin/etcd"
"""Debian's, unpacked and not installed: the package would start it."""
DEPLOY = ROOT / "deploy/kubernetes"
BUILT_WITHIN_S = 1200.0
"""How long a test waits for `tests/support/build-kubernetes`, which `make test` starts before everything else."""
VERSION = "v1.20.2"

_CACHE = Path(os.environ.get("PXEBOOT_CACHE", "/var/cache/pxeboot")) / "kubernetes"
_READY_S = 240.0
"""Some 5 s on an idle machine."""
_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_NODE = "control-plane"
_ADVERTISED = "192.0.2.10"
"""For service `kubernetes`: kubeadm and the API server refuse to advertise a loopback address. No one uses it."""

_serial = itertools.count()


def programs() -> Path:
    """Return the folder of kube-apiserver, kubeadm, kubelet and the others; wait for it while they are being built.

    Skips the test at a desk, and fails it in CI, when nobody builds them or the build has failed.
    """
    deadline = time.monotonic() + BUILT_WITHIN_S
    while True:
        building = _is_being_built()  # asked first: a build may end between the two questions
        if _are_built():
            return _CACHE / "current/bin"
        if not building or time.monotonic() > deadline:
            why = "they took too long to build" if building else "they are not built"
            lacking(f"needs Kubernetes' programs: {why}; run tests/support/build-kubernetes{_end_of_build()}")
        time.sleep(1)


def _are_built() -> bool:
    return not subprocess.run([ROOT / "tests/support/build-kubernetes", "--is-done"], check=False).returncode


def _is_being_built() -> bool:
    try:
        with (_CACHE / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _end_of_build() -> str:
    with suppress(FileNotFoundError):
        return "\n" + "".join((ROOT / ".build/kubernetes.log").read_text().splitlines(keepends=True)[-20:])
    return ""


class NotReady(Exception):
    """A program of the control plane has ended or does not answer; the text has the end of its log."""


class ControlPlane:
    """A control plane; it runs while the context lasts. All that it writes is in `folder`.

    `address` is what it listens on: that of `host`, which must be there already, or of the loopback interface.
    `endpoint`, HOST:PORT, is what kubeadm calls the controlPlaneEndpoint: what the cluster says of itself, in
    cluster-info and in kubeadm's own kubeconfigs. Ours have the address. `controllers` are further arguments of
    kube-controller-manager, such as --node-monitor-grace-period=8s, and `server` of kube-apiserver.
    """

    def __init__(
        self,
        folder: Path,
        host: Host | None = None,
        address: str | None = None,
        *,
        endpoint: str | None = None,
        controllers: Sequence[str] = (),
        server: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.host = host
        self.address = address or (_loopback() if host is None else _address_of(host))
        self.port = 6443
        self.endpoint = endpoint or f"{self.address}:{self.port}"
        self._more = {"kube-controller-manager": [*controllers], "kube-apiserver": [*server], "etcd": []}
        self._advertised = _ADVERTISED if IPv4Address(self.address).is_loopback else self.address
        self._root = folder / "root"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._starter = ThreadPoolExecutor(1, "control-plane")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://{self.address}:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's credentials."""
        return self.folder / "admin.kubeconfig"

    @property
    def pki(self) -> Path:
        """The folder of ca.crt, ca.key, sa.key ..., as in /etc/kubernetes/pki."""
        return self._root / "etc/kubernetes/pki"

    def __enter__(self) -> Self:
        self.bin = programs()
        if not ETCD.exists():
            lacking(f"needs {ETCD} (package etcd-server, unpacked by make)")
        try:
            self._prepare()
            self._start("etcd")
            self.start_api()
            self._start("kube-controller-manager")
            self._finish()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def kubectl(
        self, *argv: str, text_in: str | None = None, check: bool = True, kubeconfig: Path | None = None
    ) -> str:
        """Run kubectl, as the administrator or with another kubeconfig; return what it printed.

        Raises `CommandFailed` with its errors if its code is not 0; without `check` they are part of what is returned.
        """
        own = ("--kubeconfig", str(kubeconfig or self.kubeconfig), "--cache-dir", str(self.folder / "cache"))
        done = self._run(str(self.bin / "kubectl"), *own, *argv, text_in=text_in)
        if check and done.returncode:
            raise CommandFailed(done.returncode, ["kubectl", *argv], done.stdout, done.stderr)
        return done.stdout if check else done.stdout + done.stderr

    def kubeadm(self, *argv: str) -> str:
        """Run kubeadm on the control plane's machine, whose files it sees at their usual places.

        Raises `CommandFailed` if its code is not 0.
        """
        done = self._run(str(self.bin / "kubeadm"), *argv, "--rootfs", str(self._root))
        if done.returncode:
            raise CommandFailed(done.returncode, ["kubeadm", *argv], done.stdout, done.stderr)
        return done.stdout

    def apply(self, what: Path | str) -> str:
        """`kubectl apply` a file, or the text of one."""
        return self.kubectl("apply", "-f", "-", text_in=what.read_text() if isinstance(what, Path) else what)

    def controller_kubeconfig(self) -> Path:
        """Give `pxeboot controller` its rights and a kubeconfig, as docs/kubernetes.md tells an operator to."""
        for name in ("rbac.yaml", "rbac-push.yaml"):
            self.apply(DEPLOY / name)
        path = self.folder / "controller.kubeconfig"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "KUBECONFIG": str(self.kubeconfig)}
            done = subprocess.run(
                self._argv(str(DEPLOY / "make-kubeconfig")),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
                text=True,
                timeout=300,
                check=False,
                env=environment | {"HOME": str(self.folder)},
            )
        if done.returncode:
            raise CommandFailed(done.returncode, ["make-kubeconfig"], "", done.stderr)
        return path

    # What tests do to it.

    def start_api(self) -> None:
        """Start the API server, and wait until it answers. Raises `NotReady`.

        The controllers end when it goes while they are still starting. A kubelet would start them again; so do we.
        """
        self._start("kube-apiserver")
        deadline = time.monotonic() + _READY_S
        while True:
            if self._get("/readyz") == "ok" and all(self._get(f"/api/v1/namespaces/{name}") for name in _NAMESPACES):
                break
            self._check(deadline, "etcd", "kube-apiserver")
            time.sleep(0.1)
        controllers = self._processes.get("kube-controller-manager")
        if controllers is not None and controllers.poll() is not None:
            self.stop_controllers()
            self.start_controllers()

    def stop_api(self) -> None:
        """End the API server, as whoever upgrades it does: SIGTERM, and SIGKILL if it takes its time."""
        self._end("kube-apiserver", signal.SIGTERM)

    def kill_api(self) -> None:
        """End the API server with SIGKILL."""
        self._end("kube-apiserver", signal.SIGKILL)

    def freeze(self, program: str = "kube-apiserver") -> None:
        """Stop a program where it stands (SIGSTOP): connections stay, and nothing is answered."""
        self._processes[program].send_signal(signal.SIGSTOP)

    def thaw(self, program: str = "kube-apiserver") -> None:
        """Let a frozen program go on."""
        self._processes[program].send_signal(signal.SIGCONT)

    def stop_controllers(self) -> None:
        """End kube-controller-manager: no signer of cluster-info or certificates, no cleaner of tokens."""
        self._end("kube-controller-manager", signal.SIGKILL)

    def start_controllers(self) -> None:
        """Start kube-controller-manager; it needs a second or two."""
        self._start("kube-controller-manager")

    def pids(self) -> dict[str, int]:
        """The processes that run, by program."""
        return {name: process.pid for name, process in self._processes.items()}

    def log(self, program: str, lines: int = 20) -> str:
        """The end of a program's log."""
        path = self.folder / f"{program}.log"
        return "".join(path.read_text(errors="replace").splitlines(keepends=True)[-lines:]) if path.exists() else ""

    # How it is made.

    def _prepare(self) -> None:
        """Certificates, kubeconfigs and the manifests of static pods, below `_root`."""
        folder = self._root / "etc/kubernetes"
        folder.mkdir(parents=True)
        folder.joinpath("init.yaml").write_text(self._init_configuration())
        name = self.endpoint.rpartition(":")[0]
        (self._root / "etc/hosts").write_text(f"127.0.0.1 localhost\n{self.address} {name}\n")
        for phase in ("certs", "kubeconfig", "control-plane"):
            self._phase(phase, "all")
        self._phase("etcd", "local")
        for name in ("admin", "controller-manager"):
            text = re.sub("server: .*", f"server: {self.url}", (folder / f"{name}.conf").read_text())
            with open(os.open(self.folder / f"{name}.kubeconfig", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(text)

    def _init_configuration(self) -> str:
        address = {"advertiseAddress": self._advertised, "bindPort": self.port}
        node = {"name": _NODE, "criSocket": "/run/containerd/containerd.sock"}
        kubeadm, kubelet = "kubeadm.k8s.io/v1beta2", "kubelet.config.k8s.io/v1beta1"
        # Without a version of its own, kubeadm asks the Internet for the newest.
        cluster: dict[str, Any] = {"kubernetesVersion": VERSION, "controlPlaneEndpoint": self.endpoint}
        names = [self.address, "127.0.0.1", "localhost"]
        cluster |= {"apiServer": {"certSANs": names}, "etcd": {"local": {"serverCertSANs": names}}}
        documents: list[dict[str, Any]] = [
            {
                "apiVersion": kubeadm,
                "kind": "InitConfiguration",
                "localAPIEndpoint": address,
                "nodeRegistration": node,
            },
            {"apiVersion": kubeadm, "kind": "ClusterConfiguration", **cluster},
            {"apiVersion": kubelet, "kind": "KubeletConfiguration", "cgroupDriver": "systemd"},
        ]
        return yaml.safe_dump_all(documents)

    def _finish(self) -> None:
        """What kubeadm leaves in the cluster for machines that join."""
        # The upload of the kubelet's configuration ends with a note on the control plane's Node.
        metadata = {"name": _NODE, "labels": {"kubernetes.io/hostname": _NODE}}
        self.apply(json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": metadata}))
        phases = (("upload-config", "all"), ("bootstrap-token",), ("addon", "kube-proxy"))
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda phase: self._phase(*phase), phases))
        self.kubectl("delete", "node", _NODE)
        self._wait_for_controllers()
        token = ("secret", "--field-selector", "type=bootstrap.kubernetes.io/token")
        self.kubectl("-n", "kube-system", "delete", *token)  # as after its 24 hours

    def _wait_for_controllers(self) -> None:
        """Until cluster-info is signed (kubeadm has made a token) and there are service accounts."""
        deadline = time.monotonic() + _READY_S
        while True:
            signed = self._get("/api/v1/namespaces/kube-public/configmaps/cluster-info")
            if "jws-kubeconfig-" in signed and self._get("/api/v1/namespaces/default/serviceaccounts/default"):
                return
            self._check(deadline, "kube-controller-manager")
            time.sleep(0.1)

    def _phase(self, *phase: str) -> str:
        return self.kubeadm("init", "phase", *phase, "--config", "/etc/kubernetes/init.yaml")

    def _command(self, program: str) -> list[str]:
        """The command line of kubeadm's static pod, with the paths and addresses of here."""
        manifest = yaml.safe_load((self._root / f"etc/kubernetes/manifests/{program}.yaml").read_text())
        found: list[str] = manifest["spec"]["containers"][0]["command"]
        adapted = [self._adapted(argument) for argument in found[1:]]
        if program == "kube-apiserver" and self.host is None:
            adapted.append(f"--bind-address={self.address}")
        if program == "kube-controller-manager":
            # Nobody starts it again when it has lost its Lease; and it starts in 1 s, not in 3.
            adapted += ["--leader-elect=false", "--kube-api-qps=200", "--kube-api-burst=400"]
        path = ETCD if program == "etcd" else self.bin / program
        return [str(path), *adapted, *self._more[program]]

    def _adapted(self, argument: str) -> str:
        name, _, value = argument.partition("=")
        value = value.replace(
            "/etc/kubernetes/controller-manager.conf", f"{self.folder}/controller-manager.kubeconfig"
        )
        value = re.sub("^(?=/etc/kubernetes/|/var/lib/)", str(self._root), value)
        if self.host is None and name != "--advertise-address":
            value = value.replace("127.0.0.1", self.address).replace(self._advertised, self.address)
        if "://" in value:  # two addresses have become one
            value = ",".join(dict.fromkeys(value.split(",")))
        return f"{name}={value}"

    def _get(self, path: str) -> str:
        """Ask as an administrator; "" for every error. It takes a twentieth of the time that kubectl does."""
        keys = self.pki / "apiserver-kubelet-client"
        own = ("--cert", f"{keys}.crt", "--key", f"{keys}.key", "--cacert", str(self.pki / "ca.crt"))
        return self._run("curl", "--silent", "--fail", "--max-time", "5", *own, self.url + path).stdout

    # Processes.

    def _argv(self, *argv: str) -> list[str]:
        return [*argv] if self.host is None else self.host.argv(*argv)

    def _run(self, *argv: str, text_in: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if text_in is None else {"input": text_in}
        return subprocess.run(
            self._argv(*argv), capture_output=True, text=True, timeout=180, check=False, env=environment, **given
        )

    def _start(self, program: str) -> None:
        if program in self._processes:
            raise RuntimeError(f"{program} runs already")
        # Even when this process is killed, nothing of it stays behind. The signal comes when the thread ends that has
        # started the program (prctl(2), PR_SET_PDEATHSIG), so that is one of ours and not whichever calls us.
        argv = self._argv("setpriv", "--pdeathsig", "KILL", *self._command(program))
        with (self.folder / f"{program}.log").open("ab") as log:
            self._processes[program] = self._starter.submit(_begin, argv, log).result()

    def _check(self, deadline: float, *programs: str) -> None:
        for name in programs:
            if self._processes[name].poll() is not None:
                raise NotReady(f"{name} has ended:\n{self.log(name)}")
        if time.monotonic() > deadline:
            raise NotReady(f"they do not answer, {programs}:\n" + "\n".join(map(self.log, programs)))

    def _end(self, program: str, number: int) -> None:
        process = self._processes.pop(program)
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()

    def _stop(self) -> None:
        for program in reversed([*self._processes]):
            self._end(program, signal.SIGKILL)  # nothing of it is needed any more
        self._starter.shutdown()


def _begin(argv: list[str], log: BinaryIO) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _address_of(host: Host) -> str:
    listed = host.run("ip", "-4", "-brief", "address", "show", "dev", host.interface).stdout
    return listed.split()[2].partition("/")[0]


def _loopback() -> str:
    """An address of the loopback interface that nobody listens on; other tests may run on this machine."""
    while True:
        number = (os.getpid() * 64 + next(_serial)) % (1 << 22)
        address = str(IPv4Address("127.64.0.0") + number)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((address, 6443))
            return address
