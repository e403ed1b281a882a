"""Images: a kernel, its initrd and a squashfs, immutable and named by their digest."""
