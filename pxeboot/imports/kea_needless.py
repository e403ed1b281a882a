"""Keys of Kea that have no place in a farm, and why that is no loss, or what there is instead. Pure."""

EVERYWHERE = frozenset(
    (
        "comment", "user-context", "id", "name", "test", "renew-timer", "rebind-timer", "calculate-tee-times",
        "t1-percent", "t2-percent", "reservations", "reservations-global", "reservations-in-subnet",
        "reservations-out-of-pool", "reservation-mode", "store-extended-info", "cache-threshold",
        "cache-max-age", "allocator", "pool-id", "hostname-char-set", "hostname-char-replacement",
        "offer-lifetime", "option-def", "client-class", "4o6-interface", "4o6-interface-id", "4o6-subnet",
        "ddns-send-updates", "ddns-override-no-update", "ddns-override-client-update",
        "ddns-replace-client-name", "ddns-generated-prefix", "ddns-qualifying-suffix", "ddns-update-on-renew",
        "ddns-use-conflict-resolution", "ddns-conflict-resolution-mode", "ddns-ttl-percent",
    )
)  # fmt: skip
"""What nobody misses, wherever it stands: it is read elsewhere, of DNS updates, or about how Kea works inside."""

GLOBAL = frozenset(
    (
        "subnet4", "shared-networks", "client-classes", "interfaces-config", "lease-database", "authoritative",
        "loggers", "control-socket", "control-sockets", "dhcp-ddns", "expired-leases-processing",
        "multi-threading", "sanity-checks", "echo-client-id", "match-client-id", "host-reservation-identifiers",
        "dhcp-queue-control", "statistic-default-sample-age", "statistic-default-sample-count", "dhcp4o6-port",
        "server-tag", "parked-packet-limit", "compatibility", "early-global-reservations-lookup",
        "ip-reservations-unique", "reservations-lookup-first", "stash-agent-options",
    )
)  # fmt: skip
OF_A_SUBNET = frozenset(("subnet", "pools", "client-classes", "relay", "interface", "authoritative", "match-client-id",
                         "min-valid-lifetime", "max-valid-lifetime"))  # fmt: skip
OF_A_NETWORK = OF_A_SUBNET | {"subnet4"}
OF_A_POOL = frozenset(("pool", "client-classes"))
OF_A_CLASS = frozenset(
    ("only-if-required", "only-in-additional-list", "template-test", "min-valid-lifetime", "max-valid-lifetime")
)
OF_A_RESERVATION = frozenset(("hw-address", "client-id", "circuit-id", "duid", "flex-id", "ip-address", "hostname",
                              "client-classes"))  # fmt: skip

INSTEAD = {
    "hooks-libraries": "there are no libraries to load; for several servers, write dhcp: {shared: CLUSTER}",
    "hosts-database": "machines are in `pools` here; put those of the database there",
    "hosts-databases": "machines are in `pools` here; put those of the database there",
    "config-control": "everything is in one file here",
    "require-client-classes": "classes that are asked later have no place here; put their options into the subnet",
    "evaluate-additional-classes": "classes that are asked later have no place here; say it in the subnet",
}
"""What one can do about a key that is lost."""
