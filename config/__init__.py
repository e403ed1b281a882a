"""The vocabulary: what a farm is, what a machine may fetch, what can happen to it."""
