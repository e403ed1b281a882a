"""Every metric of `pxeboot serve` and `pxeboot controller`, in the order of their page. docs/metrics.md is made of it.

A label has few values, known from the code or from the farm's file: so the page does not grow with the farm. Numbers
that only grow begin with 0 when the process starts.
"""

from pxeboot.metrics.sample import Metric

PROCESS = (
    Metric("pxeboot_build_info", "gauge", "1; the version is in the labels.", ("version", "python")),
    Metric(
        "pxeboot_event_loop_lag_seconds",
        "histogram",
        "How much later than asked for the event loop ran a timer, looked at four times a second.",
    ),
    Metric("pxeboot_log_lines_left_out_total", "counter", "Lines of the log that nobody read: the pipe was full."),
    Metric("process_cpu_seconds_total", "counter", "CPU time, user and system, in seconds."),
    Metric("process_resident_memory_bytes", "gauge", "Memory in use."),
    Metric("process_virtual_memory_bytes", "gauge", "Address space in use."),
    Metric("process_start_time_seconds", "gauge", "When the process started, in seconds since 1970."),
    Metric("process_open_fds", "gauge", "Open file descriptors."),
    Metric("process_max_fds", "gauge", "How many it may open."),
)

FARM = (
    Metric("pxeboot_ready", "gauge", "Whether machines can boot now (/readyz): 1 or 0."),
    Metric("pxeboot_degraded", "gauge", "How many things are not as they should be, though machines boot (/readyz)."),
    Metric("pxeboot_config_generation", "gauge", "Farms that were taken in since the start, the first one included."),
    Metric("pxeboot_config_loaded_timestamp_seconds", "gauge", "When this farm was taken in."),
    Metric(
        "pxeboot_config_refused",
        "gauge",
        "Mistakes in the farm's file as it is now, which is not used because of them; else 0.",
    ),
    Metric("pxeboot_config_needs_restart", "gauge", "Changed settings that count only after a restart."),
    Metric("pxeboot_farm_nodes", "gauge", "Machines in the farm's file."),
    Metric("pxeboot_farm_pools", "gauge", "Pools of machines in it."),
    Metric("pxeboot_farm_images", "gauge", "Images in it."),
    Metric("pxeboot_farm_clusters", "gauge", "Clusters in it."),
    Metric(
        "pxeboot_interfaces",
        "gauge",
        "Interfaces of the farm's file that are served, or wait for something.",
        ("state",),
    ),
    Metric("pxeboot_findings", "gauge", "What the self-test found about this host.", ("level",)),
    Metric(
        "pxeboot_certificate_expiry_timestamp_seconds",
        "gauge",
        "When the certificate that a server shows expires.",
        ("server",),
    ),
)

MACHINES = (
    Metric(
        "pxeboot_machines",
        "gauge",
        "Machines that were heard of, by how they do (stuck, waiting, booting, up, quiet).",
        ("state",),
    ),
    Metric("pxeboot_machines_by_stage", "gauge", "Machines by the stage of their newest boot.", ("stage",)),
    Metric("pxeboot_boots_begun_total", "counter", "Boots that fetched something."),
    Metric(
        "pxeboot_boots_total",
        "counter",
        "Boots that came so far: up (the system), joined, ready (the Node), disk (the machine's own); or failed.",
        ("result",),
    ),
    Metric(
        "pxeboot_boot_duration_seconds",
        "histogram",
        "From a machine's first DHCPDISCOVER until it was up, joined or ready.",
        ("until",),
    ),
    Metric("pxeboot_boot_stage_seconds", "histogram", "How long a boot was at a stage before the next.", ("stage",)),
    Metric(
        "pxeboot_machine_lines_total", "counter", "Lines kept about machines: kernel, syslog, or our own.", ("source",)
    ),
    Metric(
        "pxeboot_machine_lines_dropped_total",
        "counter",
        "Datagrams to the receivers of machines' logs that were dropped.",
        ("reason",),
    ),
    Metric("pxeboot_machine_lines_kept_bytes", "gauge", "What the lines kept about machines take."),
)

DHCP = (
    Metric(
        "pxeboot_dhcp_received_total", "counter", "Messages that came, by their type (option 53), or bootp.", ("type",)
    ),
    Metric("pxeboot_dhcp_sent_total", "counter", "Answers, by their type.", ("type",)),
    Metric("pxeboot_dhcp_not_answered_total", "counter", "Messages that got no answer.", ("reason",)),
    Metric("pxeboot_dhcp_dropped_total", "counter", "Datagrams that were no message for us.", ("reason",)),
    Metric("pxeboot_dhcp_send_errors_total", "counter", "Answers that could not be sent, by the error.", ("error",)),
    Metric(
        "pxeboot_dhcp_options_left_out_total",
        "counter",
        "Options that an answer had no room for, by their number.",
        ("option",),
    ),
    Metric(
        "pxeboot_dhcp_unprobed_offers_total", "counter", "Addresses offered without being looked for on the network."
    ),
    Metric("pxeboot_dhcp_pool_size", "gauge", "Addresses that a pool can give.", ("pool",)),
    Metric("pxeboot_dhcp_pool_used", "gauge", "Addresses of it that are leased, or rest.", ("pool",)),
    Metric("pxeboot_dhcp_leases", "gauge", "Records of dynamic addresses that hold now, by their state.", ("state",)),
    Metric("pxeboot_dhcp_lease_sync_seconds", "histogram", "How long leases take to be on disk (fdatasync included)."),
    Metric("pxeboot_dhcp_lease_sync_errors_total", "counter", "Writes of leases that failed."),
    Metric(
        "pxeboot_dhcp_leases_not_stored", "gauge", "Whether no lease can be given, because it could not be stored."
    ),
    Metric("pxeboot_dhcp_leases_not_shared", "gauge", "Whether leases that servers share cannot be shared now."),
    Metric("pxeboot_dhcp_lease_conflicts_total", "counter", "Leases that another server gave to another machine."),
    Metric(
        "pxeboot_other_dhcp_servers", "gauge", "DHCP servers of others: conflict, unclear, expected.", ("standing",)
    ),
)

DELIVERY = (
    Metric("pxeboot_tftp_requests_total", "counter", "Requests for a file."),
    Metric("pxeboot_tftp_refused_total", "counter", "Datagrams that began no transfer.", ("reason",)),
    Metric("pxeboot_tftp_transfers_total", "counter", "Transfers that ended.", ("result",)),
    Metric("pxeboot_tftp_sent_bytes_total", "counter", "Bytes of files in them."),
    Metric("pxeboot_tftp_resent_blocks_total", "counter", "Blocks sent again in them."),
    Metric(
        "pxeboot_tftp_narrowed_total", "counter", "Times that a client got smaller blocks, as larger ones were lost."
    ),
    Metric("pxeboot_tftp_transfers_running", "gauge", "Transfers that run."),
    Metric("pxeboot_tftp_transfers_limit", "gauge", "How many may."),
    Metric(
        "pxeboot_http_requests_total", "counter", "Answers, by status code; 499: the client left before.", ("code",)
    ),
    Metric("pxeboot_http_sent_bytes_total", "counter", "Bytes of answers that are over."),
    Metric("pxeboot_http_downloads_running", "gauge", "Root images that are being sent."),
    Metric("pxeboot_http_downloads_crawling", "gauge", "More that hardly move."),
    Metric("pxeboot_http_downloads_waiting", "gauge", "Machines that wait for their turn."),
    Metric("pxeboot_http_downloads_limit", "gauge", "How many may be sent at once."),
    Metric("pxeboot_nbd_connections", "gauge", "NBD connections that are open."),
    Metric("pxeboot_nbd_accepted_total", "counter", "Those that were accepted."),
    Metric("pxeboot_nbd_turned_away_total", "counter", "Those that were not: too many."),
    Metric("pxeboot_nbd_refused_total", "counter", "Exports that were not given."),
    Metric("pxeboot_nbd_reads_total", "counter", "Reads."),
    Metric("pxeboot_nbd_cold_reads_total", "counter", "Reads, or pieces of them, that waited for a disk."),
    Metric("pxeboot_nbd_read_bytes_total", "counter", "Bytes read."),
    Metric("pxeboot_nbd_writes_total", "counter", "Writes."),
    Metric("pxeboot_nbd_written_bytes_total", "counter", "Bytes written."),
    Metric(
        "pxeboot_nbd_errors_total", "counter", "Times that a file failed a client: a disk's error, or a changed image."
    ),
    Metric("pxeboot_nbdkit_serving", "gauge", "Whether nbdkit serves the images that want it; there only if some do."),
)

JOINS = (
    Metric("pxeboot_joins_open", "gauge", "Boots that have not fetched their join command yet."),
    Metric(
        "pxeboot_joins_total",
        "counter",
        "Join commands given, denied, put off (later), and names refused, by why (docs/security.md).",
        ("result",),
    ),
    Metric("pxeboot_controller_connected", "gauge", "Whether the controller answers; there only if one is needed."),
)

CONTROLLER = (
    Metric("pxeboot_controller_tokens", "gauge", "Join tokens that are there.", ("cluster",)),
    Metric("pxeboot_controller_trouble", "gauge", "Whether a cluster cannot be kept supplied just now.", ("cluster",)),
    Metric(
        "pxeboot_controller_token_expiry_timestamp_seconds",
        "gauge",
        "When the token that machines share expires.",
        ("cluster",),
    ),
    Metric(
        "pxeboot_controller_events_total",
        "counter",
        "What it told the daemons of boots, by stage.",
        ("cluster", "stage"),
    ),
    Metric("pxeboot_controller_shared_leases", "gauge", "DHCP leases that servers share."),
)

SERVE = (*PROCESS, *FARM, *MACHINES, *DHCP, *DELIVERY, *JOINS)
"""What `pxeboot serve` tells."""
OF_CONTROLLER = (*PROCESS, *CONTROLLER)
"""What `pxeboot controller` tells."""
