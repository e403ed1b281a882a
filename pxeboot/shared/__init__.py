"""Leases that several servers share, as one of them asks its controller for them."""
