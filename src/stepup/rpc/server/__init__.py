"""The gRPC server and its sockets."""
