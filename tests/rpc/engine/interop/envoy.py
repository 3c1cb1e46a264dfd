"""Envoy in front of a server, as a mesh or an ingress has it."""

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from e2e.processes import PROGRAMS

_ENVOY = "type.googleapis.com/envoy.extensions"
_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_START_SECONDS = 30


@asynccontextmanager
async def in_front_of(target):
    """Runs one; yields the address to call instead."""
    with TemporaryDirectory() as directory:
        admin = Path(directory) / "admin"
        process = await asyncio.create_subprocess_exec(
            *(PROGRAMS / "envoy", "--config-yaml", json.dumps(_configuration(target))),
            *("--admin-address-path", admin, "--concurrency", "1", "--disable-hot-restart"),
            *("--log-level", "error"),
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not (address := await asyncio.to_thread(_address, admin)):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            yield address
        finally:
            process.terminate()
            await process.wait()


def _address(admin):
    """Where it listens, once it says so."""
    try:
        url = f"http://{admin.read_text()}/listeners?format=json"
        with urlopen(url, timeout=5) as response:  # Envoy's own
            [listener] = json.load(response)["listener_statuses"]
    except (OSError, ValueError):
        return None
    where = listener["local_address"]["socket_address"]
    return f"{where['address']}:{where['port_value']}"


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
