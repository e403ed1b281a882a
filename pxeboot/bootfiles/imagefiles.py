"""The files of images, by an image's digest or by its name.

    images/ID/FILE             of the image with this digest: the content behind the name never changes
    images/NAME/FILE           of the version that the name points to now: another one tomorrow
    images/.../FILE.sha256     the digest of that file, as `sha256sum -c` reads it

Through either name a file has its sha256 as its validator, so that a download that is resumed by a name after the
name was switched is not continued with the bytes of another version. By a name it has no date: two versions may well
have the same, such as that of the last commit.
"""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from config.content import Content, Made, OpenFile
from config.model import Image
from pxeboot.bootfiles.root import Root
from pxeboot.image import store
from pxeboot.seldom import Seldom

log = logging.getLogger(__name__)

FILES = frozenset({store.KERNEL, store.INITRD, store.SQUASHFS, store.SUMS})
DIGEST_OF = ".sha256"
"""What the name of a file's digest ends with."""

_DIGEST = re.compile("[0-9a-f]{64}")
_SWITCHES = 3
"""How often a folder may be replaced while a file of it is opened, before we give up."""


def has_file(file: str) -> bool:
    """Return whether `file` is one that an image has, or the digest of one."""
    return file.removesuffix(DIGEST_OF) in FILES


class ImageFiles:
    """Opens files of the images that a farm names. All of it blocks on the disk; safe to use from several threads."""

    def __init__(
        self,
        images: Mapping[str, Image],
        seldom: Seldom,
        more: Sequence[Path] = (),
        found: dict[str, Path] | None = None,
    ) -> None:
        """`seldom` says how often a complaint is logged. `more` are paths of images that have no name any more.

        `found` says where which digest was found, and is added to.
        """
        self._images = images
        self._seldom = seldom
        self._paths = tuple(dict.fromkeys((*(setting.path for setting in images.values()), *more)))
        self._found = {} if found is None else found

    def place(self, which: str) -> Path | None:
        """Return the store of an image, by its name or digest; None if that was not found yet. Never blocks."""
        setting = self._images.get(which)
        return setting.path.parent if setting is not None else self._found.get(which)

    def _open(self, path: Path, store_of: Path) -> store.StoredImage:
        image = store.open_image(path)
        self._found[image.image_id] = store_of
        return image

    def by_digest(self, image_id: str) -> store.StoredImage | None:
        """Return the image of this digest from any store that the farm names, whichever version is current now."""
        if not _DIGEST.fullmatch(image_id):
            return None
        there = self._found.get(image_id)  # first, as the disk of another one may hang
        for path in sorted(self._paths, key=lambda path: path.parent != there):
            for folder in (path.parent / store.BY_DIGEST / image_id, path):
                try:
                    image = self._open(folder, path.parent)
                except store.ImageError:
                    continue
                if image.image_id == image_id:
                    return image
        return None

    def find(self, which: str, file: str) -> Content | None:
        """Return `file` of the image `which`, a digest or a name, or the digest of that file; None if there is none.

        Raises `OSError` for what is our trouble.
        """
        if not has_file(file):
            return None
        plain = file.removesuffix(DIGEST_OF)
        for _ in range(_SWITCHES):
            image, immutable = self.by_digest(which), True
            if image is None:
                with suppress(store.ImageError):
                    image, immutable = self._by_name(which), False
            if image is None:
                return None
            digest = image.sums.get(plain, image.image_id)  # the listing has none of itself: that is the image's
            if plain != file:
                text = f"{digest}  {plain}\n".encode()
                return Made(file, text, hashlib.sha256(text).hexdigest(), immutable=immutable)
            found = Root(image.folder).open(plain, etag=digest, immutable=immutable)
            if found is None or self._is_still(image):
                return found if found is None or immutable else replace(found, modified_s=None)
            found.close()
        return None

    def whole(self) -> list[str]:
        """Return the names of the images that are there, all of them."""
        names = []
        for name, setting in sorted(self._images.items()):
            with suppress(store.ImageError):
                store.open_image(setting.path)
                names.append(name)
        return names

    def current(self, name: str) -> store.StoredImage:
        """Return the version that a name of the farm points to. Raises `store.ImageError` if it is not there."""
        setting = self._images.get(name)
        if setting is None:
            raise store.ImageError(f"the farm has no image {name} any more")
        return self._open(setting.path, setting.path.parent)

    def version(self, name: str, image_id: str) -> store.StoredImage:
        """Return one version of an image of the farm, the current one for "". Raises `store.ImageError`."""
        if not image_id:
            return self.current(name)
        setting = self._images.get(name)
        if setting is None:
            raise store.ImageError(f"the farm has no image {name} any more")
        return self._open(setting.path.parent / store.BY_DIGEST / image_id, setting.path.parent)

    def open(self, image: store.StoredImage, file: str) -> OpenFile | None:
        """Return a file of this version; None if it has none, or is not there any more.

        Whoever has it open reads one version to the end, so it counts as immutable. Raises `OSError`.
        """
        if file not in image.sums:
            return None
        for _ in range(_SWITCHES):
            found = Root(image.folder).open(file, etag=image.sums[file], immutable=True)
            if found is None or self._is_still(image):
                return found
            found.close()
        return None

    def _by_name(self, name: str) -> store.StoredImage | None:
        """Return the version that a name points to; None if the farm has no such name. Raises `store.ImageError`."""
        setting = self._images.get(name)
        return None if setting is None else self._open(setting.path, setting.path.parent)

    def _is_still(self, image: store.StoredImage) -> bool:
        """Return whether what was just opened belongs to `image`.

        In a store that is certain: a folder is named by its digest. A folder of another name, which somebody made by
        hand, may have been moved away between the reading of its listing and the opening of the file.
        """
        if image.in_store:
            return True
        with suppress(store.ImageError):
            return store.open_image(image.folder).image_id == image.image_id
        return False
