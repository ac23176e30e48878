"""One file per outside system: TensorFlow, the model's files, the log's history, gRPC."""
