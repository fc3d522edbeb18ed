#!/bin/sh
# Installs a requirement file into /opt/pretune, without the packages that $WITHOUT names (then and
# in the images made from this one). uv does it, and does not stay.
set -eu
cd "$(dirname "$0")"

python3 -m venv /tmp/uv
/tmp/uv/bin/pip install --quiet --disable-pip-version-check --cache-dir /packages/pip --require-hashes -r bootstrap.txt
export UV_CACHE_DIR=/packages/uv UV_LINK_MODE=copy UV_NO_PROGRESS=1
[ -x /opt/pretune/bin/python ] || /tmp/uv/bin/uv venv --quiet --allow-existing --python python3 /opt/pretune
[ -f without.txt ] || printf '%s\n' ${WITHOUT:-} >without.txt
# The root is read-only later: what is not compiled now would be compiled at every start.
/tmp/uv/bin/uv pip install --quiet --python /opt/pretune/bin/python --compile-bytecode --require-hashes \
    --excludes without.txt -r "$1"
rm -r /tmp/uv
