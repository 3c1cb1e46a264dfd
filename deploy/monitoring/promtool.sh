#!/usr/bin/env bash
# Put promtool into a directory: the one that is installed, or that of Debian's or Ubuntu's package. It
# has to be of Prometheus 2: for 3 a range begins later, and the tests' numbers would be others.
# No wheel has it. apt checks the package against the archive's signature, and needs no root: what it
# learns and fetches stays in a directory of our own.
set -euo pipefail
into=$(realpath "$1")

if installed=$(command -v promtool) && [[ $("$installed" --version 2>&1) == *"version 2."* ]]; then
  install -m 0755 "$installed" "$into/promtool"
else
  { command -v apt-get && command -v dpkg-deb; } >/dev/null ||
    { echo "promtool of Prometheus 2 is needed: install it, or do this on Debian or Ubuntu" >&2; exit 1; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  apt=(apt-get -qq -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work" -o Dir::State::status=/var/lib/dpkg/status
    -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)")
  cd "$work"
  "${apt[@]}" update
  "${apt[@]}" download prometheus
  dpkg-deb --extract prometheus_*.deb package
  install -m 0755 package/usr/bin/promtool "$into/promtool"
fi
"$into/promtool" --version 2>&1 | head -1
