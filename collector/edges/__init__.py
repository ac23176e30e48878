"""One file per outside system: Redis's protocol, the log, the gRPC surface."""
