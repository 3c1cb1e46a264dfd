#!/usr/bin/env bash
# See that there is a redis-server, which the distributions build with TLS: put one into a directory
# where the machine has none.
set -euo pipefail
mkdir -p "$1"
into=$(realpath "$1")
if ! command -v redis-server >/dev/null; then
  requirements/unpack_debian.sh "$into/package" redis-server redis-tools libatomic1 libjemalloc2 liblzf1
  cat > "$into/redis-server" <<END
#!/usr/bin/env bash
export LD_LIBRARY_PATH=\$(echo "$into"/package/usr/lib/*-linux-gnu)
exec "$into/package/usr/bin/redis-server" "\$@"
END
  chmod +x "$into/redis-server"
fi
