#!/bin/sh
# Print the path of a Python of a version, such as 3.10; fail if this machine has none.
set -eu
for python in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python /usr/local/bin/"python$1"; do
  # A shim of pyenv is there for each version, and fails for those that are not selected.
  "$python" -c 'import sys; print(sys.executable)' 2>/dev/null && exit
done
exit 1
