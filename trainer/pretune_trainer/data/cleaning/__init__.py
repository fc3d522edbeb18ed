"""Cleaning: which documents are dropped and why, what is masked, and the report of it."""
