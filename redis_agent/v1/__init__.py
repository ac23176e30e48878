"""Generated protobuf and gRPC code. Made by `make proto`; do not edit."""
