"""What is wrong in the files that a farm's file names: they may be wrong while it is right."""

from pathlib import Path
from typing import TYPE_CHECKING

from config.delivery import Certificate
from config.ltsconf import LtsConf, LtsConfError
from config.marks import Marks
from config.mistakes import Mistake
from config.model import Farm

if TYPE_CHECKING:
    import ssl


def lts_mistakes(farm: Farm) -> list[Mistake]:
    """Return what is wrong in the lts.conf files that `farm` names. One that is not there yet is no mistake."""
    mistakes = []
    for path in dict.fromkeys((farm.lts_conf, *(cluster.lts_conf for cluster in farm.clusters.values()))):
        if path is None or not path.exists():
            continue
        try:
            LtsConf.parse(path.read_text())
        except LtsConfError as error:
            mistakes.append(Mistake(str(path), error.line, 1, error.message))
        except OSError as error:
            mistakes.append(Mistake(str(path), 1, 1, f"cannot be read: {error.strerror}"))
        except UnicodeDecodeError as error:
            mistakes.append(Mistake(str(path), 1, 1, f"cannot be read: {error}"))
    return mistakes


def tls_mistakes(file: Path, farm: Farm) -> list[Mistake]:
    """Return what is wrong with the certificates and keys of machines' servers, at their lines of `file`."""
    mistakes = []
    for settings, section in ((farm.http.tls, "http.tls"), (farm.nbd.tls, "nbd.tls")):
        if settings is not None and isinstance(mistake := context_or_mistake(file, settings, section), Mistake):
            mistakes.append(mistake)
    return mistakes


def page_problem(farm: Farm) -> str | None:
    """Return why there will be no web page, as far as it lies in the files of `web.tls`.

    It is no mistake: all else is served, and another user or host may have these files.
    """
    if farm.web.tls is None:
        return None
    from httpimage.tls import TlsError, context_of

    try:
        context_of(farm.web.tls, "web.tls")
    except TlsError as error:
        return f"{error}; without it there is no web page"
    return None


def context_or_mistake(file: Path, settings: Certificate, section: str) -> "ssl.SSLContext | Mistake":
    """Return what handshakes need, or what is wrong with the files, at its line of `file`. Blocks on the disk."""
    from httpimage.tls import TlsError, context_of  # 50 ms, and most farms have no certificate

    try:
        return context_of(settings, section)
    except TlsError as error:
        where = Marks(str(file), file.read_text("utf-8-sig")).nearest((*section.split("."), error.setting))
        return Mistake(str(file), where.line if where else 1, 1, str(error))
