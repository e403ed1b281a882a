"""`python -m pxeboot` is `pxeboot`."""

from pxeboot.cli import main

main(prog_name="pxeboot")
