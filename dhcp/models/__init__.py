"""What a client will do with our answer, by what is known of its code: for people, before a machine is on.

A model is no client. It says in sentences what the program would do next, and why, from its published source or from
captures; where builds differ, it says what the pickiest does.
"""

from dhcp.models.steps import Model, Step
from dhcp.models.story import model_for, next_steps

__all__ = ["Model", "Step", "model_for", "next_steps"]
