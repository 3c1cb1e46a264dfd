#!/usr/bin/env bash
# See that there is a pgbouncer: put one into a directory where the machine has none.
set -euo pipefail
mkdir -p "$1"
into=$(realpath "$1")
if ! command -v pgbouncer >/dev/null; then
  requirements/unpack_debian.sh "$into/package" pgbouncer libc-ares2 libevent-2.1-7
  cat > "$into/pgbouncer" <<END
#!/usr/bin/env bash
export LD_LIBRARY_PATH=\$(echo "$into"/package/usr/lib/*-linux-gnu)
exec "$into/package/usr/sbin/pgbouncer" "\$@"
END
  chmod +x "$into/pgbouncer"
fi
