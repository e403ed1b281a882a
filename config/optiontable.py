"""The catalogue of DHCP options: number, name, form and source of each. Pure data.

Names are those of Kea and of the registry of BOOTP parameters, with one exception: `static-routes` is our setting
for option 121, and option 33 is `static-route`, its title in RFC 2132. A row without a source is from RFC 2132.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from config.optiontypes import Kind


@dataclass(frozen=True, slots=True)
class Definition:
    """One option, or one sub-option of a space."""

    code: int
    name: str
    kind: Kind
    source: str = ""
    """Its section of RFC 2132, or the RFC or maker that defines it."""
    least: int = 0
    """The smallest number that it can be."""
    also: tuple[str, ...] = ()
    """Other names that are understood: our own settings, and those of other servers."""


OPTIONS: tuple[Definition, ...] = (
    Definition(1, "subnet-mask", Kind.IP, "3.3", also=("netmask",)),
    Definition(2, "time-offset", Kind.INT32, "3.4"),
    Definition(3, "routers", Kind.IPS, "3.5", also=("router",)),
    Definition(4, "time-servers", Kind.IPS, "3.6", also=("time-server",)),
    Definition(5, "name-servers", Kind.IPS, "3.7", also=("ien116-name-servers",)),
    Definition(6, "domain-name-servers", Kind.IPS, "3.8", also=("domain-name-server", "dns-server", "dns-servers")),
    Definition(7, "log-servers", Kind.IPS, "3.9", also=("log-server",)),
    Definition(8, "cookie-servers", Kind.IPS, "3.10", also=("cookie-server", "quotes-servers")),
    Definition(9, "lpr-servers", Kind.IPS, "3.11", also=("lpr-server",)),
    Definition(10, "impress-servers", Kind.IPS, "3.12", also=("impress-server",)),
    Definition(11, "resource-location-servers", Kind.IPS, "3.13", also=("resource-location-server",)),
    Definition(12, "host-name", Kind.DOMAIN, "3.14", also=("hostname",)),
    Definition(13, "boot-size", Kind.UINT16, "3.15", also=("boot-file-size",)),
    Definition(14, "merit-dump", Kind.TEXT, "3.16", also=("merit-dump-file",)),
    Definition(15, "domain-name", Kind.DOMAIN, "3.17"),
    Definition(16, "swap-server", Kind.IP, "3.18"),
    Definition(17, "root-path", Kind.TEXT, "3.19"),
    Definition(18, "extensions-path", Kind.TEXT, "3.20", also=("extension-path",)),
    Definition(19, "ip-forwarding", Kind.FLAG, "4.1", also=("ip-forward-enable",)),
    Definition(20, "non-local-source-routing", Kind.FLAG, "4.2"),
    Definition(21, "policy-filter", Kind.IP_PAIRS, "4.3"),
    Definition(22, "max-dgram-reassembly", Kind.UINT16, "4.4", least=576, also=("max-datagram-reassembly",)),
    Definition(23, "default-ip-ttl", Kind.UINT8, "4.5", least=1, also=("default-ttl",)),
    Definition(24, "path-mtu-aging-timeout", Kind.SECONDS, "4.6"),
    Definition(25, "path-mtu-plateau-table", Kind.UINT16S, "4.7", least=68),
    Definition(26, "interface-mtu", Kind.UINT16, "5.1", least=68, also=("mtu",)),
    Definition(27, "all-subnets-local", Kind.FLAG, "5.2"),
    Definition(28, "broadcast-address", Kind.IP, "5.3", also=("broadcast",)),
    Definition(29, "perform-mask-discovery", Kind.FLAG, "5.4"),
    Definition(30, "mask-supplier", Kind.FLAG, "5.5"),
    Definition(31, "router-discovery", Kind.FLAG, "5.6", also=("perform-router-discovery",)),
    Definition(32, "router-solicitation-address", Kind.IP, "5.7", also=("router-solicitation",)),
    Definition(33, "static-route", Kind.IP_PAIRS, "5.8"),
    Definition(34, "trailer-encapsulation", Kind.FLAG, "6.1"),
    Definition(35, "arp-cache-timeout", Kind.SECONDS, "6.2", also=("arp-timeout",)),
    Definition(36, "ieee802-3-encapsulation", Kind.FLAG, "6.3", also=("ethernet-encap",)),
    Definition(37, "default-tcp-ttl", Kind.UINT8, "7.1", least=1, also=("tcp-ttl",)),
    Definition(38, "tcp-keepalive-interval", Kind.SECONDS, "7.2", also=("tcp-keepalive",)),
    Definition(39, "tcp-keepalive-garbage", Kind.FLAG, "7.3"),
    Definition(40, "nis-domain", Kind.TEXT, "8.1"),
    Definition(41, "nis-servers", Kind.IPS, "8.2", also=("nis-server",)),
    Definition(42, "ntp-servers", Kind.IPS, "8.3", also=("ntp-server",)),
    Definition(43, "vendor-encapsulated-options", Kind.SPACE, "8.4", also=("vendor-specific-information",)),
    Definition(44, "netbios-name-servers", Kind.IPS, "8.5", also=("netbios-ns", "wins-servers")),
    Definition(45, "netbios-dd-server", Kind.IPS, "8.6", also=("netbios-dd",)),
    Definition(46, "netbios-node-type", Kind.UINT8, "8.7", least=1, also=("netbios-nodetype",)),
    Definition(47, "netbios-scope", Kind.TEXT, "8.8"),
    Definition(48, "font-servers", Kind.IPS, "8.9", also=("x-windows-fs",)),
    Definition(49, "x-display-manager", Kind.IPS, "8.10", also=("x-windows-dm",)),
    Definition(50, "dhcp-requested-address", Kind.IP, "9.1", also=("requested-address",)),
    Definition(51, "dhcp-lease-time", Kind.SECONDS, "9.2", also=("lease-time",)),
    Definition(52, "dhcp-option-overload", Kind.UINT8, "9.3", also=("option-overload",)),
    Definition(53, "dhcp-message-type", Kind.MESSAGE_TYPE, "9.6", also=("message-type",)),
    Definition(54, "dhcp-server-identifier", Kind.IP, "9.7", also=("server-identifier",)),
    Definition(55, "dhcp-parameter-request-list", Kind.CODES, "9.8", also=("parameter-request-list",)),
    Definition(56, "dhcp-message", Kind.TEXT, "9.9"),
    Definition(57, "dhcp-max-message-size", Kind.UINT16, "9.10", also=("max-message-size",)),
    Definition(58, "dhcp-renewal-time", Kind.SECONDS, "9.11", also=("renewal-time", "t1")),
    Definition(59, "dhcp-rebinding-time", Kind.SECONDS, "9.12", also=("rebinding-time", "t2")),
    Definition(60, "vendor-class-identifier", Kind.TEXT, "9.13", also=("vendor-class",)),
    Definition(61, "dhcp-client-identifier", Kind.CLIENT_IDENTIFIER, "9.14", also=("client-identifier", "client-id")),
    Definition(62, "nwip-domain-name", Kind.TEXT, "RFC 2242"),
    Definition(63, "nwip-suboptions", Kind.SPACE, "RFC 2242"),
    Definition(64, "nisplus-domain-name", Kind.TEXT, "8.11", also=("nis+-domain", "nisplus-domain")),
    Definition(65, "nisplus-servers", Kind.IPS, "8.12", also=("nis+-server", "nisplus-server")),
    Definition(66, "tftp-server-name", Kind.TEXT, "9.4", also=("tftp-server",)),
    Definition(67, "boot-file-name", Kind.TEXT, "9.5", also=("bootfile-name", "filename")),
    Definition(68, "mobile-ip-home-agent", Kind.IPS, "8.13"),
    Definition(69, "smtp-server", Kind.IPS, "8.14", also=("smtp-servers",)),
    Definition(70, "pop-server", Kind.IPS, "8.15", also=("pop3-server", "pop-servers")),
    Definition(71, "nntp-server", Kind.IPS, "8.16", also=("nntp-servers",)),
    Definition(72, "www-server", Kind.IPS, "8.17", also=("www-servers",)),
    Definition(73, "finger-server", Kind.IPS, "8.18", also=("finger-servers",)),
    Definition(74, "irc-server", Kind.IPS, "8.19", also=("irc-servers",)),
    Definition(75, "streettalk-server", Kind.IPS, "8.20", also=("streettalk-servers",)),
    Definition(76, "streettalk-directory-assistance-server", Kind.IPS, "8.21", also=("stda-server", "stda-servers")),
    Definition(77, "user-class", Kind.CLASSES, "RFC 3004"),
    Definition(78, "slp-directory-agent", Kind.BINARY, "RFC 2610"),
    Definition(79, "slp-service-scope", Kind.BINARY, "RFC 2610"),
    Definition(80, "rapid-commit", Kind.BINARY, "RFC 4039"),
    Definition(81, "fqdn", Kind.FQDN, "RFC 4702", also=("client-fqdn",)),
    Definition(82, "dhcp-agent-options", Kind.SPACE, "RFC 3046", also=("relay-agent-information",)),
    Definition(83, "isns", Kind.BINARY, "RFC 4174"),
    Definition(85, "nds-servers", Kind.IPS, "RFC 2241"),
    Definition(86, "nds-tree-name", Kind.TEXT, "RFC 2241"),
    Definition(87, "nds-context", Kind.TEXT, "RFC 2241"),
    Definition(88, "bcms-controller-names", Kind.PLAIN_DOMAINS, "RFC 4280"),
    Definition(89, "bcms-controller-address", Kind.IPS, "RFC 4280"),
    Definition(90, "authenticate", Kind.BINARY, "RFC 3118", also=("authentication",)),
    Definition(91, "client-last-transaction-time", Kind.SECONDS, "RFC 4388"),
    Definition(92, "associated-ip", Kind.IPS, "RFC 4388"),
    Definition(93, "client-system", Kind.UINT16S, "RFC 4578", also=("client-arch", "client-system-architecture")),
    Definition(94, "client-ndi", Kind.NETWORK_INTERFACE, "RFC 4578", also=("client-network-interface",)),
    Definition(97, "uuid-guid", Kind.MACHINE_IDENTIFIER, "RFC 4578", also=("client-machine-identifier",)),
    Definition(98, "uap-servers", Kind.TEXT, "RFC 2485"),
    Definition(99, "geoconf-civic", Kind.BINARY, "RFC 4776"),
    Definition(100, "pcode", Kind.TEXT, "RFC 4833", also=("posix-timezone",)),
    Definition(101, "tcode", Kind.TEXT, "RFC 4833", also=("tzdb-timezone",)),
    Definition(108, "v6-only-preferred", Kind.SECONDS, "RFC 8925", also=("ipv6-only-preferred",)),
    Definition(112, "netinfo-server-address", Kind.IPS, "Apple"),
    Definition(113, "netinfo-server-tag", Kind.TEXT, "Apple"),
    Definition(114, "v4-captive-portal", Kind.TEXT, "RFC 8910", also=("captive-portal", "default-url")),
    Definition(116, "auto-config", Kind.FLAG, "RFC 2563"),
    Definition(117, "name-service-search", Kind.UINT16S, "RFC 2937"),
    Definition(118, "subnet-selection", Kind.IP, "RFC 3011"),
    Definition(119, "domain-search", Kind.DOMAINS, "RFC 3397"),
    Definition(120, "sip-servers", Kind.SIP_SERVERS, "RFC 3361", also=("sip-server",)),
    Definition(
        121, "classless-static-route", Kind.ROUTES, "RFC 3442", also=("classless-static-routes", "static-routes")
    ),
    Definition(122, "cablelabs-client-configuration", Kind.SPACE, "RFC 3495"),
    Definition(123, "geoconf", Kind.BINARY, "RFC 6225"),
    Definition(124, "vivco-suboptions", Kind.VENDOR_CLASSES, "RFC 3925", also=("vi-vendor-class",)),
    Definition(125, "vivso-suboptions", Kind.VENDOR_SPACES, "RFC 3925", also=("vi-vendor-specific-information",)),
    # Reserved for PXE, and used by makers of telephones, thin clients and loaders, each in a way of its own.
    Definition(128, "pxe-option-128", Kind.BINARY, "RFC 4578"),
    Definition(129, "pxe-option-129", Kind.BINARY, "RFC 4578"),
    Definition(130, "pxe-option-130", Kind.BINARY, "RFC 4578"),
    Definition(131, "pxe-option-131", Kind.BINARY, "RFC 4578"),
    Definition(132, "pxe-option-132", Kind.BINARY, "RFC 4578"),
    Definition(133, "pxe-option-133", Kind.BINARY, "RFC 4578"),
    Definition(134, "pxe-option-134", Kind.BINARY, "RFC 4578"),
    Definition(135, "pxe-option-135", Kind.BINARY, "RFC 4578"),
    Definition(136, "pana-agent", Kind.IPS, "RFC 5192"),
    Definition(137, "v4-lost", Kind.PLAIN_DOMAINS, "RFC 5223"),
    Definition(138, "capwap-ac-v4", Kind.IPS, "RFC 5417", also=("capwap-ac",)),
    Definition(141, "sip-ua-cs-domains", Kind.DOMAINS, "RFC 6011"),
    Definition(142, "v4-andsf", Kind.IPS, "RFC 6153"),
    Definition(143, "v4-sztp-redirect", Kind.BINARY, "RFC 8572"),
    Definition(144, "geoloc", Kind.BINARY, "RFC 6225"),
    Definition(146, "rdnss-selection", Kind.BINARY, "RFC 6731"),
    Definition(150, "tftp-server-address", Kind.IPS, "RFC 5859", also=("tftp-servers", "tftp-server-addresses")),
    Definition(158, "v4-pcp-server", Kind.BINARY, "RFC 7291"),
    Definition(159, "v4-portparams", Kind.BINARY, "RFC 7618"),
    Definition(160, "provisioning-url", Kind.TEXT, "RFC 7710 and makers of telephones"),
    Definition(161, "mud-url", Kind.TEXT, "RFC 8520"),
    Definition(162, "v4-dnr", Kind.BINARY, "RFC 9463"),
    Definition(175, "ipxe-encap-opts", Kind.SPACE, "iPXE", also=("ipxe", "etherboot")),
    Definition(208, "pxelinux-magic", Kind.BINARY, "RFC 5071"),
    Definition(209, "pxelinux-config-file", Kind.TEXT, "RFC 5071", also=("pxelinux-configfile", "config-file")),
    Definition(210, "pxelinux-path-prefix", Kind.TEXT, "RFC 5071", also=("pxelinux-pathprefix", "path-prefix")),
    Definition(211, "pxelinux-reboot-time", Kind.SECONDS, "RFC 5071", also=("pxelinux-reboottime", "reboot-time")),
    Definition(212, "option-6rd", Kind.BINARY, "RFC 5969"),
    Definition(213, "v4-access-domain", Kind.PLAIN_DOMAINS, "RFC 5986"),
    Definition(220, "subnet-allocation", Kind.BINARY, "RFC 6656"),
    Definition(221, "virtual-subnet-selection", Kind.BINARY, "RFC 6607"),
    Definition(249, "ms-classless-static-routes", Kind.ROUTES, "Microsoft"),
    Definition(252, "wpad", Kind.TEXT, "Microsoft", also=("wpad-url", "web-proxy-auto-discovery")),
)

_PXE = (
    Definition(1, "mtftp-address", Kind.IP),
    Definition(2, "mtftp-client-port", Kind.UINT16),
    Definition(3, "mtftp-server-port", Kind.UINT16),
    Definition(4, "mtftp-timeout", Kind.UINT8),
    Definition(5, "mtftp-delay", Kind.UINT8),
    Definition(6, "discovery-control", Kind.UINT8),
    Definition(7, "discovery-multicast-address", Kind.IP),
    Definition(8, "boot-servers", Kind.BOOT_SERVERS),
    Definition(9, "boot-menu", Kind.BOOT_MENU),
    Definition(10, "menu-prompt", Kind.MENU_PROMPT),
    Definition(71, "boot-item", Kind.UINT16S),
)
"""PXE 2.1, table 2-1."""

_RELAY = (
    Definition(1, "circuit-id", Kind.BINARY, "RFC 3046"),
    Definition(2, "remote-id", Kind.BINARY, "RFC 3046"),
    Definition(5, "link-selection", Kind.IP, "RFC 3527"),
    Definition(6, "subscriber-id", Kind.TEXT, "RFC 3993"),
    Definition(11, "server-id-override", Kind.IP, "RFC 5107"),
    Definition(12, "relay-id", Kind.BINARY, "RFC 6925"),
    Definition(19, "relay-source-port", Kind.BINARY, "RFC 8357"),
)

_IPXE = (
    Definition(1, "priority", Kind.INT8),
    Definition(8, "keep-san", Kind.UINT8),
    Definition(9, "skip-san-boot", Kind.UINT8),
    Definition(85, "syslogs", Kind.TEXT),
    Definition(91, "cert", Kind.TEXT),
    Definition(92, "privkey", Kind.TEXT),
    Definition(93, "crosscert", Kind.TEXT),
    Definition(176, "no-pxedhcp", Kind.UINT8),
    Definition(177, "bus-id", Kind.BINARY),
    Definition(188, "san-filename", Kind.TEXT),
    Definition(189, "bios-drive", Kind.UINT8),
    Definition(190, "username", Kind.TEXT),
    Definition(191, "password", Kind.TEXT),
    Definition(192, "reverse-username", Kind.TEXT),
    Definition(193, "reverse-password", Kind.TEXT),
    Definition(235, "version", Kind.BINARY),
)


def _by_code(rows: Iterable[Definition]) -> Mapping[int, Definition]:
    return {row.code: row for row in rows}


CATALOGUE: Mapping[int, Definition] = _by_code(OPTIONS)
"""Every option that we know, by number."""

SPACES: Mapping[int, Mapping[int, Definition]] = {43: _by_code(_PXE), 82: _by_code(_RELAY), 175: _by_code(_IPXE)}
"""What is inside an option of the kind `SPACE`. 43 is PXE's; another vendor's sub-options go there by number."""
