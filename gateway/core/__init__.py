"""Values in, value out: how errors and keys are told, what the page shows."""
