"""Channels to a unix socket that name containerd's namespace in every call."""

import collections

import grpc

#: No call of a test waits longer than this, in seconds, unless it says so.
TIMEOUT = 120

_Details = collections.namedtuple(
    "_Details", ["method", "timeout", "metadata", "credentials", "wait_for_ready", "compression"]
)


def connect(socket, namespace="default", timeout=TIMEOUT, window=None):
    """A channel to the server at `socket`. It may not be up yet: a call fails with UNAVAILABLE then.

    Calls carry the header `containerd-namespace`, unless `namespace` is None, and are bounded by `timeout` unless they
    bring a bound of their own. Messages of any size may be sent and received: limits are the server's to set.

    gRPC takes 64 KiB and more of a stream that nobody reads. With `window` it takes so many bytes: a reader that stops is
    one that the server feels.
    """
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    if window is not None:
        options += [("grpc.http2.lookahead_bytes", window), ("grpc.http2.bdp_probe", 0)]
    channel = grpc.insecure_channel(f"unix:{socket}", options=options)
    return grpc.intercept_channel(channel, _Defaults(namespace, timeout))


class _Defaults(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the header and the bound to each call. None of the four kinds of call differs."""

    def __init__(self, namespace, timeout):
        self._header = [("containerd-namespace", namespace)] if namespace is not None else []
        self._timeout = timeout

    def _call(self, proceed, details, request):
        timeout = self._timeout if details.timeout is None else details.timeout
        metadata = [*(details.metadata or []), *self._header]
        details = _Details(
            details.method,
            timeout,
            metadata,
            details.credentials,
            getattr(details, "wait_for_ready", None),
            getattr(details, "compression", None),
        )
        return proceed(details, request)

    intercept_unary_unary = _call
    intercept_unary_stream = _call
    intercept_stream_unary = _call
    intercept_stream_stream = _call
