"""Lease files of other servers, for those who move here or away."""
