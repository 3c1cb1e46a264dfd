"""A real Valkey cluster on this machine: three masters, each with a replica."""

from contextlib import ExitStack, contextmanager

from redis.crc import key_slot
from redis.exceptions import RedisError

from stepup_tests.valkey_server import HOST, Server, wait_until

_SLOTS = 16384
_MASTERS = 3
NODE_TIMEOUT_MS = 1000


class ValkeyCluster:
    """Servers that share all slots; which of them are masters may change."""

    def __init__(self, servers):
        self.servers = servers

    @property
    def redis_url(self):
        return "redis+cluster://" + ",".join(server.address for server in self.servers)

    @property
    def masters(self):
        return [server for server in self.servers if is_master(server)]

    def replicas_of(self, master):
        """Those that follow the master's every write."""
        return [server for server in self.servers if follows(server, master)]

    def master_of(self, key):
        """The server that has a key, as far as others know."""
        slot = key_slot(key.encode())
        port = next(filter(None, (_owner(server, slot) for server in self.servers)))
        [owner] = [server for server in self.servers if server.port == port]
        return owner

    def kill_master(self, key):
        """Kill the server that has a key; returns it."""
        master = self.master_of(key)
        master.kill()
        return master

    def flush(self):
        """Remove all keys."""
        for master in self.masters:
            master.client.flushall()

    def heal(self):
        """Let every server run again, in its place, and wait until all know of that."""
        for server in self.servers:
            server.thaw()
            if server.process.poll() is not None:
                server.start()
        self.wait_until_whole()

    def wait_until_whole(self):
        """Wait until every server knows of all others, and each master has its replica."""
        wait_until(
            lambda: all(_is_whole(server, len(self.servers)) for server in self.servers),
            "the cluster is whole",
        )
        replicas = len(self.servers) - _MASTERS
        wait_until(
            lambda: sum(map(_is_in_step, self.servers)) == replicas, "the replicas are in step"
        )


@contextmanager
def valkey_cluster(directory, *options, replicas=True, **server_options):
    """A cluster that lives for as long as the block."""
    with ExitStack() as stack:
        servers = []
        for number in range(_MASTERS * 2 if replicas else _MASTERS):
            server = Server(
                directory / f"node-{number}",
                *("--cluster-enabled", "yes", "--cluster-node-timeout", NODE_TIMEOUT_MS),
                *("--cluster-require-full-coverage", "no", "--save", "", "--appendonly", "yes"),
                *("--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0"),
                *options,
                **server_options,
            )
            stack.callback(server.close)
            servers.append(server)
        for server in servers:
            wait_until(server.answers, "a server answers")
        masters = servers[:_MASTERS]
        for number, server in enumerate(masters):
            first, beyond = _SLOTS * number // _MASTERS, _SLOTS * (number + 1) // _MASTERS
            server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, beyond - 1)
            server.client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            servers[0].client.execute_command("CLUSTER", "MEET", HOST, server.port)
        for master, replica in zip(masters, servers[_MASTERS:], strict=False):
            name = master.client.execute_command("CLUSTER", "MYID").decode()
            # Only once it has heard of its master.
            wait_until(lambda r=replica, n=name: _replicate(r, n), "a replica has a master")
        cluster = ValkeyCluster(servers)
        cluster.wait_until_whole()
        yield cluster


def is_master(server):
    """Whether it answers, and takes itself for a master."""
    return _info(server).get("role") == "master"


def follows(server, master):
    """Whether it is in step with this master."""
    return _is_in_step(server) and _info(server)["master_port"] == master.port


def _is_in_step(server):
    return _info(server).get("master_link_status") == "up"


def _info(server):
    if server.process.poll() is not None:
        return {}
    try:
        return server.client.info("replication")
    except RedisError:
        return {}


def _replicate(server, name):
    try:
        return server.client.execute_command("CLUSTER", "REPLICATE", name)
    except RedisError:
        return False


def _owner(server, slot):
    try:
        ranges = server.client.execute_command("CLUSTER SLOTS")
    except RedisError:
        return None
    for first, last, (_, port, *_), *_ in ranges:
        if first <= slot <= last:
            return port
    return None


def _is_whole(server, size):
    try:
        info = server.client.execute_command("CLUSTER INFO")
    except RedisError:
        return False
    return (info["cluster_state"], info["cluster_known_nodes"], info["cluster_slots_ok"]) == (
        "ok",
        str(size),
        str(_SLOTS),
    )
