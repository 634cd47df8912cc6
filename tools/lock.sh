#!/bin/sh
# Write constraints.txt anew from pyproject.toml: exact pins with hashes for every platform, and no index addresses.
# Pins that still fit are kept; give --upgrade, or --upgrade-package NAME, to move them. Needs uv.
set -eu
cd "$(dirname "$0")/.."
exec uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --all-extras --group dev \
    pyproject.toml --output-file constraints.txt "$@"
