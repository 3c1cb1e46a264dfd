"""A real Valkey master with two replicas on this machine, and three Sentinels that watch it."""

from contextlib import ExitStack, contextmanager

from redis.exceptions import RedisError

from stepup_tests.valkey_cluster import follows, is_master
from stepup_tests.valkey_server import HOST, Server, wait_until

MASTER = "stepup"
DOWN_AFTER_MS = 1000


class ValkeySentinel:
    """Servers, one of which the Sentinels name as the master."""

    def __init__(self, servers, sentinels):
        self.servers = servers
        self.sentinels = sentinels

    @property
    def redis_url(self):
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}"

    @property
    def master(self):
        """Whom the Sentinels name."""
        _, port = self.sentinels[0].client.execute_command(
            "SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER
        )
        [server] = [server for server in self.servers if server.port == int(port)]
        return server

    def master_of(self, _):
        """The server that has a key: as of a cluster."""
        return self.master

    def replicas_of(self, master):
        """Those that follow the master's every write."""
        return [server for server in self.servers if follows(server, master)]

    def kill_master(self, _=""):
        """Kill the master; returns it."""
        master = self.master
        master.kill()
        return master

    def flush(self):
        """Remove all keys."""
        self.master.client.flushall()

    def heal(self):
        """Let every server run again, and wait until all follow the master."""
        for server in (*self.servers, *self.sentinels):
            server.thaw()
            if server.process.poll() is not None:
                server.start()
        self.wait_until_whole()

    def wait_until_whole(self):
        """Wait until all Sentinels know of everybody, and the replicas are in step."""
        for sentinel in self.sentinels:
            wait_until(lambda s=sentinel: self._knows_everybody(s), "a Sentinel knows everybody")

        def in_step():
            master = self.master
            return is_master(master) and len(self.replicas_of(master)) == len(self.servers) - 1

        wait_until(in_step, "the replicas are in step")

    def _knows_everybody(self, sentinel):
        try:
            state = sentinel.client.sentinel_master(MASTER)
            replicas = sentinel.client.sentinel_slaves(MASTER)
        except RedisError:
            return False
        return (
            state["num-other-sentinels"] == len(self.sentinels) - 1
            and state["flags"] == "master"
            and [replica["flags"] for replica in replicas] == ["slave", "slave"]
        )


@contextmanager
def valkey_sentinel(
    directory,
    *options,
    replica_options=(),
    sentinel_options=(),
    sentinel_lines=(),
    **server_options,
):
    """Servers and Sentinels that live for as long as the block.

    Args:
        options: of the command lines of all.
        replica_options: of those of the servers only, for each may become a replica.
        sentinel_options: of those of the Sentinels only.
        server_options: of `Server`.
        sentinel_lines: of the configuration of the Sentinels.
    """
    with ExitStack() as stack:

        def started(name, *more):
            server = Server(directory / name, *more, *options, **server_options)
            stack.callback(server.close)
            return server

        kept = ("--save", "", "--appendonly", "yes", "--repl-diskless-sync-delay", "0")
        kept += replica_options
        servers = [started("server-0", *kept)]
        for number in (1, 2):
            following = ("--replicaof", f"{HOST} {servers[0].port}")
            servers.append(started(f"server-{number}", *kept, *following))
        for server in servers:
            wait_until(server.answers, "a server answers")
        sentinels = []
        for number in range(3):
            file = directory / f"sentinel-{number}.conf"  # it is written to
            lines = (
                f"sentinel monitor {MASTER} {HOST} {servers[0].port} 2",
                f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
                f"sentinel failover-timeout {MASTER} 4000",
                *sentinel_lines,
            )
            file.write_text("\n".join(lines) + "\n")
            sentinels.append(started(f"sentinel-{number}", file, "--sentinel", *sentinel_options))
        for sentinel in sentinels:
            wait_until(sentinel.answers, "a Sentinel answers")
        valkey = ValkeySentinel(servers, sentinels)
        valkey.wait_until_whole()
        yield valkey
