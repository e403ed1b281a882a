"""How others look into the daemon: JSON over a unix socket."""
