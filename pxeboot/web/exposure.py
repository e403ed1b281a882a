"""What people should know of a page that they open to others. Pure."""

from ipaddress import ip_address

from config.observing import Web, parse_listen


def notes(web: Web) -> list[str]:
    """Return a line for each thing that a person may not have meant.

    >>> notes(Web(listen=("10.0.0.1:8067",), users="users"))[0][:57]
    'web.listen: 10.0.0.1:8067 is plain HTTP on a network, whe'
    """
    plain = [] if web.tls is not None else [
        listen for listen in web.listen if not ip_address(parse_listen(listen)[0]).is_loopback
    ]  # fmt: skip
    if not plain or web.users is None:
        return []
    where = f"web.listen: {', '.join(plain)} {'is' if len(plain) == 1 else 'are'} plain HTTP on a network"
    if web.read == "users":
        return [f"{where}, where passwords are not taken: nobody can read the page there; give it `web.tls`"]
    return [f"{where}, where passwords are not taken: the page only shows there; `web.tls` changes that"]
