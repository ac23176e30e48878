"""controller: whether to move an instance, where, whether it may; and moving it, once.

Reads:   observations, anomalies, its own journal.
Decides: what the votes say of each site; whether policy lets traffic move; the plan.
Writes:  failovers (a write-ahead journal, and each decision not to act); DNS, fences and promotions.
"""
