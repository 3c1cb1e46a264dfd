#!/usr/bin/env bash
# Put promtool into a directory: the installed one, or the one in Debian's or Ubuntu's package,
# because no wheel has it. It must be Prometheus 2: in 3 a range begins later, and the tests' numbers
# would differ.
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
