"""Options of an engine under test."""

OPTIONS = (
    ("grpc.max_receive_message_length", 64 * 1024),
    ("grpc.so_reuseport", 0),
)


CALLS_PER_CONNECTION = 50
