#!/usr/bin/env bash
# Issue certificates for a server of stepup and for its callers, with an authority for each of the two kinds.
#
#   make.sh DIRECTORY server NAME HOST...       DIRECTORY/NAME.crt and NAME.key, for host names or IP addresses
#   make.sh DIRECTORY client NAME SPIFFE_ID     DIRECTORY/NAME.crt and NAME.key, for a caller (S15)
#
# The first certificate of a kind makes its authority: DIRECTORY/server-ca.crt or client-ca.crt, and its key. A thief of
# client-ca.key can be any caller: keep the key off the servers. DAYS is the lifetime (365). An existing authority is
# used again; an existing NAME.key is an error.
set -euo pipefail
umask 077

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
[ $# -ge 4 ] || usage
directory=$1 kind=$2 name=$3
shift 3
mkdir -p "$directory"
cd "$directory"
[ ! -e "$name.key" ] \
  || { echo "make.sh: $directory/$name.key exists already: choose another NAME, or move it" >&2; exit 1; }

case $kind in
  server)
    names=
    for host; do
      if [[ $host =~ ^[0-9.]+$ || $host == *:* ]]; then names+=",IP:$host"; else names+=",DNS:$host"; fi
    done
    ;;
  client)
    [[ $# -eq 1 && $1 =~ ^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$ ]] \
      || { echo "make.sh: a caller has one SPIFFE id: spiffe://TRUST-DOMAIN/PATH" >&2; exit 2; }
    names=,URI:$1
    ;;
  *) usage ;;
esac

new_key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }

if [ ! -e "$kind-ca.key" ]; then
  new_key "$kind-ca"
  openssl req -x509 -new -key "$kind-ca.key" -out "$kind-ca.crt" -days 3650 -subj "/CN=stepup ${kind}s" \
    -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
  chmod 644 "$kind-ca.crt"
fi

new_key "$name"
openssl req -new -key "$name.key" -subj "/CN=$name" | openssl x509 -req -days "${DAYS:-365}" -out "$name.crt" \
  -CA "$kind-ca.crt" -CAkey "$kind-ca.key" -extfile <(cat <<END
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=${kind}Auth
subjectAltName=${names#,}
END
) 2>/dev/null
chmod 644 "$name.crt"
