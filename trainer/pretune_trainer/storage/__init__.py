"""Stores, and what is kept in them: runs, commits, checkpoints."""
