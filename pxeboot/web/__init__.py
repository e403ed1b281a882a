"""The web page that shows the farm, on listeners of its own, beside metrics and health checks."""
