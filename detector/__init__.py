"""detector: whether each site behaves normally, and why not.

Reads:   metrics (Arrow batches of samples).
Decides: whether a site's last ticks are what its own past and the model expect; nothing about what to do.
Writes:  anomalies: opened, updated, closed, with the features that weigh most.
"""
