"""Settings of dnsmasq that have no place in a farm, and why that is no loss, or what there is instead. Pure."""

NEEDLESS = {
    "dhcp-authoritative": "",
    "bind-interfaces": "",
    "bind-dynamic": "",
    "enable-tftp": "",
    "log-dhcp": "",
    "log-async": "",
    "log-facility": "",
    "keep-in-foreground": "",
    "no-daemon": "",
    "pid-file": "",
    "user": "",
    "group": "",
    "dhcp-no-override": "",
    "dhcp-lease-max": "",
    "dhcp-sequential-ip": "an unlisted machine gets an address by its MAC, or its last one",
    "dhcp-rapid-commit": "",
    "dhcp-ignore-names": "names that machines send are not taken anyway",
    "dhcp-generate-names": "",
    "dhcp-ignore-clid": "that is how it is here: a machine is its MAC",
    "dhcp-broadcast": "what clients need a broadcast is known here",
    "dhcp-fqdn": "",
    "dhcp-client-update": "",
    "dhcp-ttl": "",
    "leasefile-ro": "",
    "tftp-secure": "nobody gets a file through a link, or from outside the folder",
    "tftp-no-fail": "",
    "tftp-no-blocksize": "a client that asks for a block size gets one that its path can carry",
    "tftp-mtu": "the path's own MTU is found",
    "tftp-max": "",
    "tftp-port-range": "`tftp: {single_port: true}` needs no port besides 69",
    "pxe-prompt": "there is no menu to wait at",
    "enable-ra": "IPv6 is not served here",
    "ra-param": "IPv6 is not served here",
}
"""Why nothing is lost; empty where nobody would ask."""

INSTEAD = {
    "listen-address": "write server: {interfaces: [...]}, or server.address",
    "except-interface": "write those that are served: server: {interfaces: [...]}",
    "no-dhcp-interface": "write those that are served: server: {interfaces: [...]}",
    "tftp-unique-root": "there is one folder for all machines here: server.files",
    "tftp-lowercase": "names of files are taken as they are asked for",
    "dhcp-script": "`pxeboot status --json` and the events of the control socket say what happens",
    "dhcp-luascript": "`pxeboot status --json` and the events of the control socket say what happens",
    "dhcp-relay": "this is no relay; a relay in front of it works (next_server of its subnet)",
    "dhcp-proxy": "relays need no list here",
    "dhcp-alternate-port": "DHCP is at its own ports here",
    "dhcp-ignore": "there are no rules of tags here; an unlisted machine gets no answer where a subnet has no pool",
    "bootp-dynamic": "only machines that are listed get an answer to BOOTP",
    "dhcp-reply-delay": "write it as a quirk: dhcp.quirks[].reply_delay_s",
    "dhcp-pxe-vendor": "write it as a quirk: dhcp.quirks[].match.vendor_classes",
    "read-ethers": "the machines of /etc/ethers are not read; add them to a pool",
    "shared-network": "write shared_network: WORD to both subnets",
}
"""What one can do about a setting that is lost."""

_WORDS = """
server local address domain-needed bogus-priv no-resolv resolv-file no-poll cache-size expand-hosts no-hosts
addn-hosts hostsdir cname mx-host mx-target selfmx localmx srv-host txt-record ptr-record host-record naptr-record
caa-record dns-rr interface-name synth-domain auth-server auth-zone auth-soa auth-sec-servers auth-peer log-queries
localise-queries filterwin2k neg-ttl local-ttl max-ttl max-cache-ttl min-cache-ttl strict-order all-servers
stop-dns-rebind rebind-localhost-ok rebind-domain-ok bogus-nxdomain ignore-address alias dnssec trust-anchor
dnssec-check-unsigned dnssec-no-timecheck dnssec-timestamp proxy-dnssec conntrack edns-packet-max query-port
min-port max-port dns-forward-max dns-loop-detect no-negcache clear-on-reload add-mac add-cpe-id add-subnet ipset
nftset connmark-allowlist connmark-allowlist-enable local-service rev-server enable-dbus enable-ubus domain-suffix
no-round-robin fast-dns-retry use-stale-cache filter-A filter-AAAA filter-rr do-0x20-encode cache-rr dumpfile
dumpmask umbrella quiet-dhcp quiet-dhcp6 quiet-ra quiet-tftp log-debug
"""
OF_NAMES = frozenset((*_WORDS.split(), "domain"))
"""Settings of DNS, of which there is none here, and of its log."""
