#!/usr/bin/env bash
# Put a redis-server, which the distributions build with TLS, and a redis-cli into a directory, unless the
# machine has them.
set -euo pipefail
mkdir -p "$1"
into=$(realpath "$1")
for program in redis-server redis-cli; do
  command -v "$program" >/dev/null && continue
  test -x "$into/package/usr/bin/$program" \
    || requirements/unpack_debian.sh "$into/package" redis-server redis-tools libatomic1 libjemalloc2 liblzf1
  cat > "$into/$program" <<END
#!/usr/bin/env bash
export LD_LIBRARY_PATH=\$(echo "$into"/package/usr/lib/*-linux-gnu)
exec "$into/package/usr/bin/$program" "\$@"
END
  chmod +x "$into/$program"
done
