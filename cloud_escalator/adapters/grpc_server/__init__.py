"""Where edge nodes connect: the gRPC server and the streams on it."""
