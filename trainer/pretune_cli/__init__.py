"""The command `pretune`: the same jobs, the same plan and the same ranks as in a cluster, on one machine."""
