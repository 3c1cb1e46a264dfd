#!/bin/sh
# Install the packages of a lock: install.sh ENVIRONMENT LOCK, with the Python of $PYTHON.
#
# uv installs the lock of developers in 4 s, and pip in 24 s. uv reads no configuration of pip but what this script
# hands on. Where uv cannot be had or does not succeed, pip installs the lock.
set -eu
environment=$1
lock=$2
python=${PYTHON:-python3}
pip() { "$python" -m pip --disable-pip-version-check "$@"; }

[ -x "$environment/bin/python" ] || "$python" -m venv --without-pip "$environment"
if [ -x .uv/bin/uv ]; then
  index=${PIP_INDEX_URL:-$(pip config get global.index-url 2>/dev/null || pip config get user.index-url 2>/dev/null || true)}
  certificates=${PIP_CERT:-$(pip config get global.cert 2>/dev/null || true)}
  if env ${index:+UV_DEFAULT_INDEX="$index"} ${certificates:+SSL_CERT_FILE="$certificates"} UV_NO_CACHE=1 UV_HTTP_TIMEOUT=10 \
    .uv/bin/uv pip install --quiet --python "$environment/bin/python" --no-deps --require-hashes --requirement "$lock"; then
    exit
  fi
  echo "*** uv did not install $lock: pip does it." >&2
fi
pip --python "$environment/bin/python" install --quiet --no-deps --no-compile --require-hashes --requirement "$lock"
