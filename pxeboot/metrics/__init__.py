"""What Prometheus reads at /metrics: numbers, and labels of few values, none of them a machine."""
