"""Statements of dhcpd that have no place in a farm, and why that is no loss, or what there is instead. Pure."""

OF_NAMES = ("ddns-", "update-", "omapi-", "dhcp-cache-", "adaptive-", "fqdn.", "do-forward-", "do-reverse-")
"""How statements begin that are about DNS updates and the like, of which there are none here."""

NEEDLESS = {
    "always-broadcast": "which clients need a broadcast is known here",
    "always-reply-rfc1048": "",
    "boot-unknown-clients": "",
    "db-time-format": "",
    "delayed-ack": "",
    "max-ack-delay": "",
    "dynamic-bootp-lease-length": "only listed machines get an answer to BOOTP",
    "get-lease-hostnames": "",
    "infinite-is-reserved": "",
    "key": "",
    "log-facility": "",
    "min-secs": "",
    "not": "",
    "one-lease-per-client": "",
    "pid-file-name": "",
    "ping-check": "",
    "ping-timeout": "",
    "server-identifier": "it is the address of the interface that answers, or server.address",
    "server-duid": "",
    "site-option-space": "",
    "stash-agent-options": "",
    "use-host-decl-names": "a machine's name is its host name anyway",
    "use-lease-addr-for-default-route": "",
    "vendor-option-space": "what is in option 43 is decided here for each client",
    "zone": "",
}
"""Why nothing is lost; empty where nobody would ask."""

INSTEAD = {
    "local-address": "write server: {interfaces: [...]}, or server.address",
    "local-port": "DHCP is at its own ports here",
    "subclass": "machines are told apart here by their architecture, iPXE, network, or as listed machines",
    "match": "machines are told apart here by their architecture, iPXE, network, or as listed machines",
    "spawn": "there are no classes here; dhcp.limits.clients_per_circuit limits the addresses of a switch's port",
    "lease": "there are no classes here; dhcp.limits.clients_per_circuit limits the addresses of a switch's port",
    "execute": "`pxeboot status --json` and the events of the control socket say what happens",
    "log": "the daemon logs a line for each thing that is finished",
    "failover": "write dhcp: {shared: CLUSTER}, and leases of several servers are kept in that cluster",
}
"""What one can do about a statement that is lost."""

BLOCKS = {
    "failover": "write dhcp: {shared: CLUSTER}, and leases of several servers are kept in that cluster",
    "on": "`pxeboot status --json` and the events of the control socket say what happens",
    "key": "there are no updates of DNS here",
    "zone": "there are no updates of DNS here",
    "switch": "conditions are known here that are `if`, and tell an architecture or iPXE",
}
"""The same for blocks."""
