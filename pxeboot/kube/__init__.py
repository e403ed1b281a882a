"""The Kubernetes API as the controller uses it. Nothing else imports a client of it."""
