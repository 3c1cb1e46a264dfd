#!/usr/bin/env bash
# Put promtool into a directory: the one that is installed, or that of Debian's or Ubuntu's package, for
# no wheel has it. It has to be of Prometheus 2: for 3 a range begins later, and the tests' numbers
# would be others.
set -euo pipefail
into=$(realpath "$1")

if installed=$(command -v promtool) && [[ $("$installed" --version 2>&1) == *"version 2."* ]]; then
  install -m 0755 "$installed" "$into/promtool"
else
  package=$(mktemp -d)
  trap 'rm -rf "$package"' EXIT
  requirements/unpack_debian.sh "$package" prometheus
  install -m 0755 "$package/usr/bin/promtool" "$into/promtool"
fi
"$into/promtool" --version 2>&1 | head -1
