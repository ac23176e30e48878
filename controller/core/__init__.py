"""Values in, value out. Read in this order: votes, health, policy, failover, journal."""
