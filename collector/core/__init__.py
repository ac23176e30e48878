"""Values in, value out: what an INFO says, what an answer or its absence means, when a site is due."""
