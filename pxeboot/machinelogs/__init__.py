"""Receivers for what machines log while they boot: syslog, and the kernel's netconsole."""
