"""A bare machine in QEMU: a firmware, network cards, memory, and nothing else. No disk.

Software emulation only; the cards are taps on the segment's bridge.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from tests.support.segment import Segment

ROOT = Path(__file__).parents[2]
OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")

SECURE_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
SECURE_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
"""With Microsoft's keys, which Debian's shim is signed for, and Secure Boot on."""

CPU = "max,-erms,-fsrm"
"""Everything the emulator can do, but for fast string operations: the kernel would clear pages byte by byte with
them, and each byte written to a page that held code has the emulator look through all it translated from there."""


BOOT_S = 420.0
"""How long a machine may take to what it does while it boots: 20 to 90 s on a quiet host. Nobody waits for longer than
it takes, so that this costs a test nothing that passes."""
SOON_S = 150.0
"""The same for what takes a moment on a quiet host: an answer, a line of a log, one round of a loop on a machine."""

OFF_S = 85.0
"""Within which a machine has to be off that was asked to; some seconds on a quiet host. After 90 s systemd kills what
does not end, so that this is how a root shows that cannot be let go of."""

HTTP_ONLY = tuple(
    word
    for version in ("IPv4", "IPv6")
    for word in ("-fw_cfg", f"name=opt/org.tianocore/{version}PXESupport,string=no")
)
"""What takes PXE away from OVMF, so that it boots over HTTP at once and not a minute later."""


class Firmware(Enum):
    """What a machine starts with."""

    BIOS = "bios"
    """SeaBIOS with QEMU's iPXE ROM on the card."""
    UEFI = "uefi"
    """OVMF with its own PXE; the card's ROM is taken away."""
    SECURE = "secure"
    """The same, and it starts nothing that is not signed (Secure Boot)."""


class Machine:
    """A machine on the segment; `power_on` starts it. Its serial console is kept in a file."""

    def __init__(
        self,
        segment: Segment,
        folder: Path,
        *,
        name: str = "machine",
        firmware: Firmware = Firmware.UEFI,
        macs: Sequence[str] = ("52:54:00:12:34:56",),
        boot_card: int = 0,
        memory_mib: int = 1024,
    ) -> None:
        """Plug in a machine whose card number `boot_card` boots. Files go to `folder`."""
        self._segment = segment
        self._folder = folder
        self._name = name
        self._firmware = firmware
        self._macs = macs
        self._boot_card = boot_card
        self._memory_mib = memory_mib
        self._process: subprocess.Popen[str] | None = None
        self._router: subprocess.Popen[str] | None = None
        """Who answers iPXE's question for IPv6 (`tests.support.ipv6_router`)."""
        self.console_file = folder / f"{name}.console"
        self._monitor = folder / f"{name}.qmp"
        self._taps = [segment.tap(f"tap-{name[:8]}{n}") for n in range(len(macs))]

    def argv(self, extra: Sequence[str] = ()) -> list[str]:
        """Return QEMU's command line."""
        argv = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", CPU, "-smp", "1"]
        argv += ["-m", str(self._memory_mib), "-display", "none", "-monitor", "none", "-no-user-config"]
        argv += ["-serial", f"file:{self.console_file}", "-qmp", f"unix:{self._monitor},server=on,wait=off"]
        secure = self._firmware is Firmware.SECURE
        argv += ["-machine", "q35,smm=on" if secure else "q35"]
        if secure:
            argv += ["-global", "driver=cfi.pflash01,property=secure,value=on"]
        if self._firmware is not Firmware.BIOS:
            variables = self._folder / f"{self._name}.vars"
            shutil.copyfile(SECURE_VARS if secure else OVMF_VARS, variables)
            argv += ["-drive", f"if=pflash,format=raw,readonly=on,file={SECURE_CODE if secure else OVMF_CODE}"]
            argv += ["-drive", f"if=pflash,format=raw,file={variables}"]
        for number, (mac, tap) in enumerate(zip(self._macs, self._taps, strict=True)):
            argv += ["-netdev", f"tap,id=n{number},ifname={tap},script=no,downscript=no"]
            device = f"virtio-net-pci,netdev=n{number},mac={mac}"
            if number == self._boot_card:
                device += ",bootindex=1"
            if self._firmware is not Firmware.BIOS or number != self._boot_card:
                device += ",romfile="
            argv += ["-device", device]
        return [*argv, *extra]

    def power_on(self, *extra: str) -> None:
        """Start the machine; `extra` goes to QEMU."""
        self.console_file.unlink(missing_ok=True)
        log = (self._folder / f"{self._name}.qemu").open("w")
        with log:
            if self._firmware is Firmware.BIOS and self._router is None:
                argv = (sys.executable, "-m", "tests.support.ipv6_router", "br0")
                self._router = self._segment.bridge.popen(*argv, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
            self._process = self._segment.bridge.popen(*self.argv(extra), stdout=log, stderr=subprocess.STDOUT)

    @property
    def running(self) -> bool:
        """Whether the machine is powered."""
        return self._process is not None and self._process.poll() is None

    def power_off(self) -> None:
        """Pull the plug."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def press_power_button(self) -> None:
        """Ask the machine to go, as a person does who presses the button for a moment (an ACPI event)."""
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._monitor))
            with monitor.makefile("rw") as lines:
                lines.readline()  # it says what it is
                for command in ("qmp_capabilities", "system_powerdown"):
                    print(json.dumps({"execute": command}), file=lines, flush=True)
                    while "return" not in json.loads(lines.readline()):
                        pass  # an event

    def wait_until_off(self, within_s: float = OFF_S) -> None:
        """Wait until the machine has powered itself off. Raises `TimeoutError`."""
        begin = time.monotonic()
        while self.running:
            if time.monotonic() - begin > within_s and self.running:
                raise TimeoutError(f"it did not power off within {within_s} s; the console ends:\n"
                                   f"{self.console()[-2000:]}")  # fmt: skip
            time.sleep(0.1)

    def console(self) -> str:
        """Return what the serial console has shown so far."""
        try:
            return self.console_file.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_for(self, text: str, within_s: float = BOOT_S, *, since: int = 0) -> str:
        """Return the console once it shows `text` after position `since`. Raises `TimeoutError` with its end."""
        deadline = time.monotonic() + within_s
        over = False
        while not over:
            # Asked before the last look at the console: we may stall, and it may say it and be off in the meantime.
            over = not self.running or time.monotonic() > deadline
            console = self.console()
            if text in console[since:]:
                return console
            time.sleep(0.0 if over else 0.2)
        raise TimeoutError(f"{text!r} did not show within {within_s} s; the console ends:\n{self.console()[-2000:]}")
