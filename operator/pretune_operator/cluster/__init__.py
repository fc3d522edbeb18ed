"""Everything that talks to the Kubernetes API and to head pods, and a copy of what they said."""
