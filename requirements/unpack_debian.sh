#!/usr/bin/env bash
# Unpack packages of Debian or Ubuntu into a directory: unpack_debian.sh DIRECTORY PACKAGE...
# apt checks them against the archive's signature, and needs no root: what it learns and fetches stays
# in a directory of our own.
set -euo pipefail
mkdir -p "$1"
into=$(realpath "$1")
shift
{ command -v apt-get && command -v dpkg-deb; } >/dev/null ||
  { echo "$* would come from Debian or Ubuntu, which this is not: install it" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/archives/partial"
apt=(apt-get -qq -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o Dir::State::status=/var/lib/dpkg/status
  -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)")
cd "$work"
"${apt[@]}" update
"${apt[@]}" download "$@"
for package in *.deb; do
  dpkg-deb --extract "$package" "$into"
done
