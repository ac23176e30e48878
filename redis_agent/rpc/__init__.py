"""gRPC as every service serves and calls it: health, reflection, keys, TLS, deadlines."""
