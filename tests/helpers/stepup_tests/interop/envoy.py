"""Envoy in front of a server, as a mesh or an ingress has it."""

import asyncio
from contextlib import ExitStack, asynccontextmanager

from stepup_tests.e2e.envoy import envoy

_ENVOY = "type.googleapis.com/envoy.extensions"
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


@asynccontextmanager
async def in_front_of(target):
    """Runs one; yields the address to call instead."""
    with ExitStack() as stack:
        running = await asyncio.to_thread(stack.enter_context, envoy(_configuration(target)))
        yield running.address


def _configuration(target):
    host, _, port = target.rpartition(":")
    route = {"cluster": "server", "timeout": "0s"}
    manager = {
        "@type": f"{_ENVOY}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "grpc",
        "codec_type": "HTTP2",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": route}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{_ENVOY}.filters.http.router.v3.Router"},
            }
        ],
    }
    http2 = {
        "@type": f"type.googleapis.com/{_HTTP}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    return {
        "admin": {"address": _socket("127.0.0.1", 0)},
        "static_resources": {
            "listeners": [
                {
                    "name": "front",
                    "address": _socket("127.0.0.1", 0),
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "server",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {_HTTP: http2},
                    "load_assignment": {
                        "cluster_name": "server",
                        "endpoints": [
                            {"lb_endpoints": [{"endpoint": {"address": _socket(host, int(port))}}]}
                        ],
                    },
                }
            ],
        },
    }


def _socket(host, port):
    return {"socket_address": {"address": host, "port_value": port}}
