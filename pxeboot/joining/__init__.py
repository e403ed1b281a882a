"""The join of a machine that boots: who may fetch its command, and what the controller is asked for it."""
