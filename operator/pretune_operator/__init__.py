"""The operator: turns jobs into run configs, and run configs into Ray clusters."""
