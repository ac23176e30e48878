"""One file per outside system: Route 53, name servers, Redis, the pause switch, the journal, the gRPC surface."""
