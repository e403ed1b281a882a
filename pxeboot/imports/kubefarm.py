"""The values of kubefarm's chart → a farm. Pure.

What stands for what: docs/reference/imports.md. The chart of ours takes the same values, and does the same.
"""

import json
import re
from typing import Any

import yaml

from config import yamltree
from config.dhcpoptions import number_of
from config.yamltree import Mapping, Mark, Node, Scalar
from config.yamltree import Sequence as List
from pxeboot.imports.found import MADE, Draft, Imported, NotReadable, Source, texts, tree
from pxeboot.imports.kubefarm_pools import Pools
from pxeboot.imports.ltspconf import VARIABLES, VARIABLES_FILE, Carried, carried
from pxeboot.imports.options import said

CLUSTER, IMAGE = "kubernetes", "node"
EVERY_MACHINE = "all"
INIT_SCRIPT, INIT_KEY = "/etc/ltsp/pxeboot-init.sh", "INIT_COMMAND_50_LTSP_INIT"
_OF_THE_POD = frozenset(
    (
        "image", "replicaCount", "publishDHCP", "service", "labels", "annotations", "podLabels",
        "podAnnotations", "nodeSelector", "tolerations", "affinity", "sidecars", "extraVolumes",
    )
)  # fmt: skip
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PARTS = ("dhcpOptions", "ltspOptions", "kubernetesLabels", "kubernetesTaints")


def read(source: Source) -> Imported:
    """Return the farm that kubefarm's values describe. Raises `NotReadable`."""
    draft = Draft()
    draft.sources.add(source)
    try:
        root = yamltree.read(source.text, lambda mark, message: draft.lost(mark, "this line", message))
    except yamltree.NotReadable as error:
        raise NotReadable(f"{source.name}:{error.mark[0]}:{error.mark[1]}: {error.message}") from None
    if not isinstance(root, Mapping) or not {"nodePools", "ltsp", "tags", "kubernetes"} & {*root.items}:
        raise NotReadable(f"{source.name}: these are no values of kubefarm: there is neither `nodePools` nor `ltsp`")
    return _Values(draft, root, source.text).farm()


class _Values:
    """One file of values, on its way to a farm."""

    def __init__(self, draft: Draft, root: Mapping, text: str) -> None:
        self._draft, self._root, self._text = draft, root, text
        self._tags: dict[str, dict[str, Any]] = {}
        self._files: dict[str, Any] = {}

    def farm(self) -> Imported:
        """Return the farm."""
        root, draft = self._root, self._draft
        node = self._node()
        for part in _PARTS:
            for tag, (mark, value) in _items(_at(root, "tags", part)):
                self._tag(part, tag, mark, value)
        for part, (mark, _) in _items(_at(root, "tags")):
            if part not in _PARTS and part != "kubernetes":
                draft.lost(mark, f"tags.{part}", f"nothing is known of it; known: {', '.join(_PARTS)}")
        for key, option in _items(_at(root, "ltsp", "config", "options")):
            self._option(EVERY_MACHINE, key, option)  # of [common], which LTSP reads after [clients]
        cluster = self._cluster()
        pools = Pools(draft, cluster, IMAGE)
        farm_pools, subnets = pools.read(_at(root, "nodePools"), [*self._tags])
        for tag in pools.undefined:
            self._tags.setdefault(tag, {})
        for key, (mark, _) in _items(root):
            if key not in ("nodePools", "ltsp", "tags", "kubernetes", "tokenGenerator"):
                draft.lost(mark, key, "nothing is known of it")
        if self._files:
            node["files"] = self._files
        draft.todo += _TODO
        return draft.done(
            {
                "dhcp": {"subnets": subnets} if subnets else {},
                "images": {IMAGE: {"path": f"/srv/pxeboot/images/{IMAGE}"}},
                "clusters": {cluster: {"tokens": "boot"}} if cluster else {},
                "pools": farm_pools,
                "tags": {name: self._tags[name] for name in sorted(self._tags, key=_all_first)},
                "node": node,
            }
        )

    def _cluster(self) -> str | None:
        """The cluster that machines join, if the values have tokens made."""
        generator = _at(self._root, "tokenGenerator")
        for key, (mark, _) in _items(generator):
            if key != "enabled":
                why = f"each boot gets a token of its own; clusters.{CLUSTER}.boot_token_ttl_s is how long it lives"
                self._draft.note(mark, f"tokenGenerator.{key}", why)
        for _, (mark, _) in [*_items(_at(self._root, "kubernetes"))][:1]:
            self._draft.note(mark, "kubernetes", "the control plane is none of ours; its chart stays as it is")
        return None if _text(_at(generator, "enabled")) == "false" else CLUSTER

    def _node(self) -> dict[str, Any]:
        """`ltsp.config`, which is about all machines."""
        node: dict[str, Any] = {}
        for key, (mark, value) in _items(_at(self._root, "ltsp")):
            if key in _OF_THE_POD and _says_something(value):
                self._draft.note(mark, f"ltsp.{key}", "of kubefarm's pod and service, which are no more")
        for key, (mark, value) in _items(_at(self._root, "ltsp", "config")):
            match key:
                case "timezone" | "rootPasswd" if _text(value):
                    node["timezone" if key == "timezone" else "root_password_hash"] = value
                case "sshAuthorizedKeys" | "modules" if _listed(value):
                    node["ssh_authorized_keys" if key == "sshAuthorizedKeys" else "modules"] = value
                case "sysctls" if isinstance(value, Mapping) and value.items:
                    node["sysctls"] = value
                case "dockerConfig" if isinstance(value, Mapping) and value.items:
                    # With the types that Helm sees: a quoted "3" is a text, which dockerd insists on for log-opts.
                    typed = yaml.load(self._text, Loader=_LOADER)["ltsp"]["config"][key]
                    content = json.dumps(typed, indent=2, default=str) + "\n"
                    self._files["/etc/docker/daemon.json"] = tree({"content": content}, mark)
                case "extraFiles":
                    self._extra_files(value)
                case "sections":
                    self._sections(value)
                case "disableAutoupdate":
                    if _text(value) == "false":
                        kept = "apt-daily.timer apt-daily-upgrade.timer"
                        self._lts(EVERY_MACHINE)["KEEP_SYSTEM_SERVICES"] = tree(kept, mark)
                case "extraProjectedItems" if _listed(value):
                    why = "mount what they hold beside the farm's file, and name it: node.files: {NAME: {from: ...}}"
                    self._draft.lost(mark, f"ltsp.config.{key}", why)
                case _:
                    if key not in _CONFIG:
                        self._draft.lost(mark, f"ltsp.config.{key}", "nothing is known of it")
        return node

    def _extra_files(self, value: Node) -> None:
        for name, (mark, content) in _items(value):
            if not isinstance(content, Scalar) or content.value is None:
                self._draft.lost(mark, f"the file {name}", "its content is no text")
                continue
            path = name if name.endswith(".service") else f"/etc/ltsp/{name}"
            self._files[path] = tree({"content": content}, mark)

    def _sections(self, value: Node) -> None:
        for name, (mark, content) in _items(value):
            script = _text(content)
            if name != "init/" or not script:
                if script:
                    why = "no part of LTSP runs here; what it does may fit into an INIT_COMMAND_ of a tag's `lts`"
                    self._draft.lost(mark, f"the section [{name}]", why)
                continue
            text = f"#!/bin/sh\n. {VARIABLES_FILE}\n{script}"
            self._files[INIT_SCRIPT] = tree({"content": text, "mode": "0755"}, mark)
            self._variables()
            self._lts(EVERY_MACHINE)[INIT_KEY] = tree(INIT_SCRIPT, mark)
            self._draft.note(mark, f"the section [{name}]", f"it is {INIT_SCRIPT}; functions of LTSP are not there")

    def _tag(self, part: str, tag: str, mark: Mark, entries: Node) -> None:
        self._tags.setdefault(tag, {})
        if part == "kubernetesTaints" and isinstance(entries, List):
            self._tags[tag]["taints"] = entries
            return
        if not isinstance(entries, Mapping):
            if _says_something(entries):
                self._draft.lost(mark, f"tags.{part}.{tag}", "it is no mapping")
            return
        for key, value in entries.items.items():
            match part:
                case "dhcpOptions":
                    self._dhcp(tag, key, value)
                case "ltspOptions":
                    self._option(tag, key, value)
                case "kubernetesLabels":
                    self._tags[tag].setdefault("labels", {})[key] = value[1]
                case _:
                    self._draft.lost(value[0], f"tags.{part}.{tag}", "taints are a list")

    def _dhcp(self, tag: str, key: str, value: tuple[Mark, Node]) -> None:
        """An option with its values between commas, by a name of dnsmasq or by its number."""
        mark, node = value
        text = _text(node)
        if text is None:
            return
        try:
            name, inner = said(number_of(key), re.split(r"\s*,\s*", text.strip()))
        except ValueError as error:
            self._draft.lost(mark, f"tags.dhcpOptions.{tag}.{key}", str(error))
            return
        settings = self._tags[tag].setdefault("dhcp", {})
        if name == "options":
            settings.setdefault("options", {}).update({word: tree(one, node.mark) for word, one in inner.items()})
        else:
            settings[name] = tree(inner, node.mark)

    def _option(self, tag: str, key: str, value: tuple[Mark, Node]) -> None:
        """An option of ltsp.conf."""
        mark, node = value
        if not isinstance(node, Scalar):
            self._draft.lost(mark, key, "its value is no text")
            return
        self._take(tag, key, carried(key, node.value or ""), node.mark)

    def _take(self, tag: str, key: str, found: Carried, mark: Mark) -> None:
        match found.kind:
            case "lts":
                lts = self._lts(tag)
                if found.key == "RM_SYSTEM_SERVICES" and found.key in lts:  # DISABLE_ and MASK_ are both that
                    found = Carried("lts", found.key, f"{lts[found.key].value} {found.value}")
                lts[found.key] = Scalar(mark, found.value)
                if found.variables:
                    self._variables()
                if found.why:
                    self._draft.note(mark, key, found.why)
            case "kernel":
                words = self._tags.setdefault(tag, {}).setdefault("kernel_parameters", texts([], mark))
                words.items += [Scalar(mark, word) for word in found.value.split()]
                if found.why:
                    self._draft.note(mark, key, found.why)
            case "needless":
                self._draft.note(mark, key, found.why)
            case "lost":
                self._draft.lost(mark, key, found.why)

    def _lts(self, tag: str) -> dict[str, Any]:
        lts = self._tags.setdefault(tag, {}).setdefault("lts", {})
        assert isinstance(lts, dict)
        return lts

    def _variables(self) -> None:
        self._files.setdefault(VARIABLES_FILE, tree({"content": VARIABLES}, MADE))


_CONFIG = frozenset(
    (
        "timezone", "rootPasswd", "sshAuthorizedKeys", "modules", "sysctls", "dockerConfig", "extraFiles",
        "sections", "disableAutoupdate", "extraProjectedItems", "options",
    )
)  # fmt: skip
_TODO = (
    "server: {interfaces: [...]}: the network cards that machines boot from",
    f"images: `pxeboot image build {IMAGE}`, or `pxeboot image add {IMAGE} root.squashfs`",
    f"clusters.{CLUSTER}: kubeconfig, unless the controller runs in that cluster",
)


def _all_first(tag: str) -> tuple[bool, str]:
    return tag != EVERY_MACHINE, ""


def _at(node: Node | None, *place: str) -> Node | None:
    return None if node is None else yamltree.find(node, place)


def _items(node: Node | None) -> list[tuple[str, tuple[Mark, Node]]]:
    return [*node.items.items()] if isinstance(node, Mapping) else []


def _text(node: Node | None) -> str | None:
    return node.value if isinstance(node, Scalar) else None


def _listed(node: Node) -> bool:
    return isinstance(node, List) and bool(node.items)


def _says_something(node: Node) -> bool:
    return bool(node.value if isinstance(node, Scalar) else node.items)
