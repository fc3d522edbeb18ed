"""A real Kubernetes for tests: the whole of it (`machine`), or its API server alone (`control_plane`)."""
