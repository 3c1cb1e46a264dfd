"""The gRPC server: thin, between the wire and the use cases."""
