"""The second engine for NBD: the program nbdkit, as a child of ours, for those who want its filters.

nbdkit owns the protocol on its port; which disks there are, and who may have them, it asks us, through a small plugin
in Python (`pxeboot/nbdkit/plugin.py`) and a unix socket (`pxeboot.nbdkit.door`).
"""
