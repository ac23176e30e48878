"""Values in, value out. Read in this order: alerts, grouping, outbox, message."""
