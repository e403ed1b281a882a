"""What people have, as a farm's file: the configuration of dnsmasq, dhcpd and Kea, and kubefarm's values.

Each reader (`kubefarm`, `dnsmasq`, `dhcpd`, `kea`) turns text into a `found.Imported`. `sound.sound` takes out
what the farm's own rules refuse, so that what `write.text` writes is a file that `config.load` takes.
"""
