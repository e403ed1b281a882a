# Two commands do all the set-up on a fresh Debian 12 machine: `make demo` and `make test`. Run them as root.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGES := .build/images

# What the daemon, the image builder and the machines of the tests need. QEMU's BIOS card ROM is in ipxe-qemu.
RUN_PACKAGES := python3-venv iproute2 nftables grub-common grub-pc-bin grub-efi-amd64-bin mmdebstrap squashfs-tools e2fsprogs \
	zstd openssl qemu-system-x86 ipxe-qemu seabios ovmf
# Other people's clients, which judge ours.
TEST_PACKAGES := netbase busybox udhcpc isc-dhcp-client tftp-hpa atftp curl libnbd-bin python3-libnbd nbd-client nbdkit nbdkit-plugin-python fio qemu-utils fuse3 util-linux \
	shellcheck procps cpio dash systemd strace faketime isc-dhcp-relay ethtool \
	golang-1.19-go golang-github-modern-go-reflect2-dev dpkg-dev \
	shim-signed grub-efi-amd64-signed chromium fonts-dejavu-core buildah podman runc groff debhelper lintian
# Other people's servers, beside which ours is tested and measured; perfdhcp is in kea-admin. dnsmasq-base has no service.
PEER_PACKAGES := kea-dhcp4-server kea-admin dnsmasq-base nginx-light tftpd-hpa libpcre2-8-0
PEER_SERVICES := kea-dhcp4-server nginx tftpd-hpa
# Not installed but unpacked into .build/peers: atftpd and tftpd-hpa exclude each other, the others start themselves.
PEER_UNPACKED := atftpd nbd-server etcd-server prometheus
# What a node image has with the kubelet and kubeadm of tests/support/build-kubernetes.
KUBERNETES_PACKAGES := containerd runc containernetworking-plugins iptables conntrack ethtool socat ebtables

.PHONY: help demo test kubernetes lint unit net boot image bench-start bench-dhcp bench-tftp bench-http bench-nbd \
	bench-shared bench-ready bench-reload fuzz man reference screenshots clean

help:
	@echo "make demo         a bare machine boots from us and joins a cluster, in a network of our own"
	@echo "make test         everything: lint, unit tests, real clients, machines from power-on"
	@echo "make lint | unit | net | boot | bench-start | bench-dhcp | bench-tftp | bench-http | bench-nbd | \
bench-shared | bench-ready | bench-reload | fuzz"

demo: $(BIN)/pxeboot .build/node-image
	@$(BIN)/python -m tests.demo

test: kubernetes lint unit net boot

# For the real control plane of the tests: five minutes of two processors, once on a machine. It goes on in the
# background, at low priority, while lint and unit tests run; who needs it waits for it.
kubernetes: .build/test-packages
	@tests/support/build-kubernetes --is-done || { \
		echo "== Kubernetes is built in the background: .build/kubernetes.log"; \
		setsid -f nice -n 19 tests/support/build-kubernetes </dev/null >>.build/kubernetes.log 2>&1; }

lint: $(BIN)/pxeboot .build/test-packages
	@echo "== lint"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@shellcheck -s sh node/mountroot node/nbd node/let-go node/prepare node/report node/rcfile node/say node/get deploy/apt-install deploy/kubernetes/make-kubeconfig tests/support/build-kubernetes tests/support/kubeadm \
		deploy/debian/build deploy/pod/start deploy/pod/add-extra deploy/pod/example/run/10-release tests/support/build-pod \
		tests/support/customise-node tests/support/customise-kubernetes-node

unit: $(BIN)/pxeboot .build/test-packages
	@echo "== unit tests"
	@$(BIN)/pytest -q -n 2 tests/unit

net: $(BIN)/pxeboot .build/test-packages .build/peer-packages | kubernetes
	@echo "== real clients against the real servers"
	@$(BIN)/python -m tests.again -n 2 --dist loadfile --durations=25 tests/net

boot: $(BIN)/pxeboot .build/node-image .build/kubernetes-image .build/pod-image .build/debian-package .build/test-packages .build/peer-packages
	@echo "== machines from power-on"
	@$(BIN)/python -m tests.again -v -n 2 --dist loadfile --no-loadscope-reorder --durations=25 tests/boot

bench-start: $(BIN)/pxeboot
	@$(BIN)/python -m bench.start

bench-dhcp: $(BIN)/pxeboot .build/peer-packages
	@$(BIN)/python -m bench.dhcp

bench-tftp: $(BIN)/pxeboot .build/test-packages .build/peer-packages
	@$(BIN)/python -m bench.tftp

bench-http: $(BIN)/pxeboot .build/test-packages .build/peer-packages
	@$(BIN)/python -m bench.http

bench-nbd: $(BIN)/pxeboot .build/test-packages .build/peer-packages
	@$(BIN)/python -m bench.nbd

bench-shared: $(BIN)/pxeboot .build/test-packages .build/peer-packages | kubernetes
	@$(BIN)/python -m bench.shared_leases

bench-ready: $(BIN)/pxeboot .build/kubernetes-image .build/test-packages .build/peer-packages
	@$(BIN)/python -m bench.ready

bench-reload: $(BIN)/pxeboot
	@$(BIN)/python -m bench.reload

# FUZZ_S is how long each of them runs, in seconds. What fails is printed and left in .build/fuzz.
FUZZ_S ?= 180
fuzz: $(BIN)/pxeboot
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/pip install -q --disable-pip-version-check -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz.fuzz_dhcp $(FUZZ_S)
	@$(BIN)/python -m tests.fuzz.fuzz_tftp $(FUZZ_S)
	@$(BIN)/python -m tests.fuzz.fuzz_http $(FUZZ_S)
	@$(BIN)/python -m tests.fuzz.fuzz_nbd $(FUZZ_S)

image: .build/node-image

# Manual pages into .build/man; and the documents that are made of the code, after a change of it.
man: $(BIN)/pxeboot
	@$(BIN)/python -m pxeboot.reference --man .build/man
reference: $(BIN)/pxeboot
	@$(BIN)/python -m pxeboot.reference docs/reference
	@$(BIN)/python -m pxeboot.metrics.table
	@$(BIN)/python -m config.schema >config/farm.schema.json
	@$(BIN)/python -m tests.support.chart

# The pictures of the README, of a made-up farm.
screenshots: $(BIN)/pxeboot .build/test-packages
	@$(BIN)/python -m tests.screenshots

$(BIN)/pxeboot: setup.cfg pyproject.toml .build/run-packages
	@echo "== a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check -e '.[kubernetes,test,lint]'
	@touch $@

.build/run-packages: Makefile
	@deploy/apt-install $(RUN_PACKAGES)
	@mkdir -p .build && touch $@

.build/test-packages: Makefile
	@deploy/apt-install $(TEST_PACKAGES)
	@mkdir -p .build && touch $@

# Nothing may start on this host: these packages would start their servers now (hence policy-rc.d) and at each boot.
POLICY := /usr/sbin/policy-rc.d
.build/peer-packages: Makefile
	@if dpkg -s $(PEER_PACKAGES) >/dev/null 2>&1; then :; else \
		if [ ! -e $(POLICY) ]; then \
			trap 'rm -f $(POLICY)' EXIT; printf '#!/bin/sh\nexit 101\n' >$(POLICY); chmod 755 $(POLICY); \
		fi; \
		deploy/apt-install $(PEER_PACKAGES) && \
			{ ! command -v systemctl >/dev/null || systemctl disable --quiet $(PEER_SERVICES); }; \
	fi
	@mkdir -p .build/peers
	@cd .build/peers && if [ ! -x usr/sbin/atftpd ] || [ ! -x bin/nbd-server ] || [ ! -x usr/bin/etcd ] || [ ! -x usr/bin/promtool ]; then \
		apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root $(PEER_UNPACKED) && \
			for deb in *.deb; do dpkg -x $$deb . && rm $$deb || exit 1; done; \
	fi
	@touch $@

# The node image of the demonstration and of the boot tests: Debian 12 with the small kernel.
IMAGE_SOURCES := pxeboot/image/build.py pxeboot/image/disk.py pxeboot/image/modules.py pxeboot/image/store.py pxeboot/image/tools.py tests/support/kubeadm tests/support/customise-node
.build/node-image: $(IMAGE_SOURCES) | $(BIN)/pxeboot
	@echo "== a node image, from Debian's packages (about a minute)"
	@$(BIN)/pxeboot image build node --store $(IMAGES) --kernel linux-image-cloud-amd64 --level 3 --ext4 2G \
		--package curl --package openssl --package cron --hook tests/support/customise-node
	@touch $@

.build/kubernetes-image: $(IMAGE_SOURCES) tests/support/customise-kubernetes-node tests/support/build-kubernetes | $(BIN)/pxeboot kubernetes
	@echo "== a node image with the kubelet (about a minute)"
	@tests/support/build-kubernetes
	@$(BIN)/pxeboot image build kubernetes --store $(IMAGES) --kernel linux-image-cloud-amd64 --level 3 \
		$(addprefix --package ,$(KUBERNETES_PACKAGES)) --hook tests/support/customise-kubernetes-node
	@touch $@

# The image of deploy/pod/Containerfile, with deploy/pod/example in its machines.
POD_SOURCES := $(shell find deploy/pod config dhcp tftp httpimage nbd node pxeboot -type f ! -name '*.pyc') \
	setup.cfg pyproject.toml .containerignore tests/support/build-pod
.build/pod-image: $(POD_SOURCES) | $(BIN)/pxeboot .build/test-packages
	@echo "== the server and its machines' root in one container image (two minutes)"
	@tests/support/build-pod .build/pod >.build/pod.log 2>&1 || { tail -n 40 .build/pod.log; exit 1; }
	@touch $@

.build/debian-package: $(shell find deploy/debian deploy/systemd docs config dhcp tftp httpimage nbd node pxeboot -type f ! -name '*.pyc') \
	setup.cfg README.md deploy/pxeboot.service deploy/pxeboot-controller.service | $(BIN)/pxeboot .build/test-packages
	@echo "== the Debian package (a minute or two)"
	@PYTHON=$(CURDIR)/$(BIN)/python deploy/debian/build .build/debian >.build/debian.log 2>&1 || { tail -n 40 .build/debian.log; exit 1; }
	@touch $@

clean:
	rm -rf .build $(VENV)
