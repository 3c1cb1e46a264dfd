#!/usr/bin/env bash
# Issue certificates for a server of stepup and for its callers, with an authority for each of the two kinds.
#
#   make.sh DIRECTORY server NAME HOST...       DIRECTORY/NAME.crt and NAME.key, for host names or IP addresses
#   make.sh DIRECTORY client NAME SPIFFE_ID     DIRECTORY/NAME.crt and NAME.key, for a caller (S15)
#
# The first certificate of a kind makes its authority: DIRECTORY/server-ca.crt or client-ca.crt, and its key. A thief of
# client-ca.key can be any caller: keep the key off the servers. DAYS is the lifetime (365, at most 3650). An existing
# authority is used again; an existing NAME.key is an error. A run that fails leaves no file.
set -euo pipefail
umask 077

usage() { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
refuse() { echo "make.sh: $1" >&2; exit 2; }
[ $# -ge 4 ] || usage
directory=$1 kind=$2 name=$3 days=${DAYS:-365}
shift 3
[[ $name =~ ^[a-z0-9][a-z0-9.-]*$ && $name != *-ca ]] \
  || refuse "NAME has lower-case letters, digits, dots and hyphens, and does not end in -ca"
[[ $days =~ ^[1-9][0-9]{0,3}$ && $days -le 3650 ]] || refuse "DAYS is a number from 1 to 3650"

case $kind in
  server)
    names=
    for host; do
      [[ $host =~ ^[A-Za-z0-9.:-]+$ ]] || refuse "HOST is a host name or an IP address"
      if [[ $host =~ ^[0-9.]+$ || $host == *:* ]]; then names+=",IP:$host"; else names+=",DNS:$host"; fi
    done
    ;;
  client)
    [[ $# -eq 1 && $1 =~ ^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$ && ! $1/ =~ /\.{1,2}/ ]] \
      || refuse "a caller has one SPIFFE id: spiffe://TRUST-DOMAIN/PATH"
    names=,URI:$1
    ;;
  *) usage ;;
esac

mkdir -p "$directory"
cd "$directory"
[ ! -e "$name.key" ] \
  || { echo "make.sh: $directory/$name.key exists already: choose another NAME, or move it" >&2; exit 1; }
new=$(mktemp -d ./new.XXXXXX)
trap 'rm -rf "$new"' EXIT

new_key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$new/$1.key"; }

if [ ! -e "$kind-ca.key" ]; then
  new_key "$kind-ca"
  openssl req -x509 -new -key "$new/$kind-ca.key" -out "$new/$kind-ca.crt" -days 3650 -subj "/CN=stepup ${kind}s" \
    -addext basicConstraints=critical,CA:TRUE,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
  chmod 644 "$new/$kind-ca.crt"
  mv "$new/$kind-ca".* .
fi

new_key "$name"
openssl req -new -key "$new/$name.key" -subj "/CN=$name" | openssl x509 -req -days "$days" -out "$new/$name.crt" \
  -CA "$kind-ca.crt" -CAkey "$kind-ca.key" -extfile <(cat <<END
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=${kind}Auth
subjectAltName=${names#,}
END
) 2>"$new/errors" || { cat "$new/errors" >&2; exit 1; }
chmod 644 "$new/$name.crt"
mv "$new/$name".* .
