import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pxeboot.bootfiles import loader
from tests.support.segment import lacking, requires

SCRIPT = """\
#!/bin/sh
for option; do
    case $option in --net-directory=*) into=${option#*=} ;; esac
done
echo made >> {log}
mkdir -p "$into/grub/i386-pc" "$into/grub/x86_64-efi"
"""


IMAGE_SCRIPT = """\
#!/bin/sh
for option; do
    case $option in
        --output=*) into=${option#*=} ;;
        --memdisk=*) disk=${option#*=} ;;
        *=*) said="$said ${option#*=}" ;;
        *) said="$said $option" ;;
    esac
done
echo image >> {log}
echo $said > "$into"
tar -xOf "$disk" grub/grub.cfg >> "$into"
"""


class Library:
    """A GRUB that is quick to run, its modules, and the folder that is served."""

    def __init__(self, folder: Path, setenv: Callable[[str, str], None]) -> None:
        self.served = folder / "boot"
        self.modules = folder / "lib"
        self.log = folder / "log"
        self.program = folder / "bin/grub-mknetdir"
        self.program.parent.mkdir()
        self.script(SCRIPT.replace("{log}", str(self.log)))
        self.image_program = self.program.with_name("grub-mkimage")
        self.image_program.write_text(IMAGE_SCRIPT.replace("{log}", str(self.log)))
        self.image_program.chmod(0o755)
        for platform in loader.PLATFORMS:
            (self.modules / platform).mkdir(parents=True)
            for name in ("kernel.img", "moddep.lst"):
                (self.modules / platform / name).write_text(name)
        setenv("PATH", f"{self.program.parent}:/usr/bin:/bin")

    def script(self, text: str) -> None:
        self.program.write_text(text)
        self.program.chmod(0o755)

    @property
    def times(self) -> int:
        """How often images were made."""
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def left(self) -> set[str]:
        return {path.name for path in self.served.iterdir()}


@pytest.fixture
def grub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library(tmp_path, monkeypatch.setenv)
    monkeypatch.setattr(loader, "GRUB_LIBRARY", library.modules)
    return library


def test_images_are_made_once_until_another_grub_is_installed(grub: Library) -> None:
    for _ in range(2):
        loader.ensure(grub.served)
    assert grub.times == 1
    assert grub.left() == {"grub"}
    os.utime(grub.modules / "x86_64-efi/moddep.lst", (1, 1))
    for _ in range(2):
        loader.ensure(grub.served)
    assert grub.times == 2
    (grub.modules / "i386-pc/kernel.img").write_text("larger than before")
    loader.ensure(grub.served)
    assert grub.times == 3
    assert grub.left() == {"grub"}


def test_images_of_which_nobody_knows_the_grub_are_made_again(grub: Library) -> None:
    for platform in loader.PLATFORMS:
        (grub.served / "grub" / platform).mkdir(parents=True)
    (grub.served / "grub/i386-pc/of-an-old-version").touch()
    loader.ensure(grub.served)
    assert grub.times == 1
    assert not (grub.served / "grub/i386-pc/of-an-old-version").exists()


def test_other_built_in_modules_make_other_images(grub: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    loader.ensure(grub.served)
    monkeypatch.setattr(loader, "BUILT_IN", "normal")
    loader.ensure(grub.served)
    assert grub.times == 2


def test_images_stay_where_grub_is_not_installed(grub: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    loader.ensure(grub.served)
    monkeypatch.setattr(loader, "GRUB_LIBRARY", grub.served / "none")
    loader.ensure(grub.served)
    assert grub.left() == {"grub"}
    with pytest.raises(loader.LoaderError, match="apt-get install grub-pc-bin grub-efi-amd64-bin"):
        loader.ensure(grub.served.with_name("other"))


def test_images_stay_when_new_ones_cannot_be_made(grub: Library, caplog: pytest.LogCaptureFixture) -> None:
    failing = "#!/bin/sh\necho no such module >&2\nexit 1\n"
    working = grub.program.read_text()
    grub.script(failing)
    with pytest.raises(loader.LoaderError, match="no such module"):
        loader.ensure(grub.served)
    grub.script(working)
    loader.ensure(grub.served)
    grub.script(failing)
    os.utime(grub.modules / "i386-pc/kernel.img", (1, 1))
    loader.ensure(grub.served)
    assert "no such module" in caplog.text
    assert grub.left() == {"grub"}


def test_what_was_left_half_made_is_removed(grub: Library) -> None:
    (grub.served / ".grub-abc/grub/i386-pc").mkdir(parents=True)
    loader.ensure(grub.served)
    assert grub.left() == {"grub"}
    (grub.served / ".grub-abc").mkdir()
    loader.ensure(grub.served)
    assert grub.left() == {"grub"}


def test_when_told_to_stop_it_ends_the_program_and_what_that_started(grub: Library, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    grub.script(f"#!/bin/sh\nsleep 60 &\necho $$ $! > {pids}.new\nmv {pids}.new {pids}\nsleep 60\n")
    began = time.monotonic()
    with pytest.raises(loader.Halted):
        loader.ensure(grub.served, pids.exists)
    assert time.monotonic() - began < 5
    assert grub.left() == set()
    for pid in pids.read_text().split():
        assert ended(int(pid))


def own(grub: Library, http: str = "10.0.0.1", name: str = "grub/i386-pc/core.0") -> str:
    return loader.Images(grub.served).own(name, http)


def test_each_address_of_ours_has_an_image_that_goes_on_from_there_by_http(grub: Library) -> None:
    loader.ensure(grub.served)
    bios, uefi, other = own(grub), own(grub, name="grub/x86_64-efi/core.efi"), own(grub, "10.1.0.1:8080")
    assert (bios, uefi) == ("grub/own/10.0.0.1/i386-pc/core.0", "grub/own/10.0.0.1/x86_64-efi/core.efi")
    made = {name: (grub.served / name).read_text() for name in (bios, uefi, other)}
    for name, platform, words in (
        (bios, "i386-pc", ["i386-pc-pxe", "pxe"]),
        (uefi, "x86_64-efi", ["x86_64-efi", "efinet"]),
    ):
        said = made[name].splitlines()[0].split()
        assert said[:4] == [words[0], str(grub.modules / platform), "(memdisk)/grub", words[1]]
        assert set(loader.BUILT_IN.split()) <= set(said)
        assert "set prefix=(http,10.0.0.1)/grub\n" in made[name]
    assert "set prefix=(http,10.1.0.1:8080)/grub\n" in made[other]
    assert grub.left() == {"grub"}


def test_an_image_of_our_address_is_made_once_until_another_grub_is_installed(grub: Library) -> None:
    loader.ensure(grub.served)
    first = grub.served / own(grub)
    made = first.stat().st_ino
    own(grub)
    loader.ensure(grub.served)
    assert first.stat().st_ino == made
    os.utime(grub.modules / "x86_64-efi/moddep.lst", (1, 1))
    loader.ensure(grub.served)
    assert not first.exists()
    assert (grub.served / own(grub)).exists()


def test_machines_that_ask_at_once_wait_for_one_image(grub: Library) -> None:
    loader.ensure(grub.served)
    images = loader.Images(grub.served)
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: images.own("grub/i386-pc/core.0", "10.0.0.1"), range(50)))
    assert found == {"grub/own/10.0.0.1/i386-pc/core.0"}
    assert grub.log.read_text().split().count("image") == 1


def test_the_common_image_stands_in_where_none_of_our_address_can_be_made(
    grub: Library, caplog: pytest.LogCaptureFixture
) -> None:
    loader.ensure(grub.served)
    grub.image_program.write_text("#!/bin/sh\necho no such format >&2\nexit 1\n")
    images = loader.Images(grub.served)
    for _ in range(2):
        assert images.own("grub/i386-pc/core.0", "10.0.0.1") == "grub/i386-pc/core.0"
    assert len(caplog.records) == 1
    assert "no such format" in caplog.text
    assert "10.0.0.1" in caplog.text
    assert grub.left() == {"grub"}


@requires("grub-mkimage")
@pytest.mark.parametrize("name", loader.IMAGES)
def test_the_real_program_makes_images_of_our_address(tmp_path: Path, name: str) -> None:
    if not (loader.GRUB_LIBRARY / loader.IMAGES[name].platform).exists():
        lacking("needs GRUB's modules")
    image = (tmp_path / loader.Images(tmp_path).own(name, "192.0.2.1:8080")).read_bytes()
    assert len(image) > 100_000
    if name.endswith(".efi"):  # the other is compressed
        assert image.startswith(b"MZ")
        assert b"(memdisk)/grub\0" in image
        assert b"set prefix=(http,192.0.2.1:8080)/grub\n" in image


def ended(pid: int) -> bool:
    """Return whether a process is gone, or only waits for somebody to ask how it ended."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False
