"""What can be looked up, made from the code itself: `python -m pxeboot.reference docs/reference`, or `--man DIR`.

A test holds docs/reference to it. Metrics have a page of their own, made where they are defined.
"""
