"""Everything that talks to the Kubernetes API, and a copy of what it said."""
