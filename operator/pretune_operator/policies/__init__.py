"""Policies: one decision each."""
