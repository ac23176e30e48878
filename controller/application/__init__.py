"""What the controller does with its decisions: the fleet's state, the journal of decisions, orders, driving failovers."""
