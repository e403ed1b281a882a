"""The answer that a machine would get, before it asks: the DHCP engine run on a made-up or recorded packet."""
