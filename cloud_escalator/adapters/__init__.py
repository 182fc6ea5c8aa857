"""What the escalator wraps: the gRPC server, the decoding pool and the inference thread."""
