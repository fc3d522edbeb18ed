"""The trainer: carries out a run config, on one machine or on a Ray cluster."""
