#!/bin/sh
# Make .venv hold what constraints.txt pins, and fetch the three sources that no package index can install.
# Needs no root. Run by `make setup`; with --if-needed (make demo, make test) it ends at once when nothing changed.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.setup-stamp
python=$venv/bin/python
# The folder belongs to the key because a virtual environment does not survive being moved.
key="$(pwd) $(cat pyproject.toml constraints.txt tools/setup.sh | cksum)"

say() { printf '%s\n' "$*"; }

find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    say "setup: no Python 3.11 or newer on PATH. Install one (Debian: apt install python3 python3-venv), or install" \
        "uv, which brings its own." >&2
    exit 1
}

install_with_uv() {
    uv venv --quiet --allow-existing "$venv"
    # Compiled here, as pip does: where PYTHONDONTWRITEBYTECODE is set, as in many images, every command would compile
    # its imports anew, and take three times as long to start.
    uv pip install --quiet --compile-bytecode --python "$python" --require-hashes -r constraints.txt
    # hatchling, the build backend, came hash-checked with the line above, so nothing unchecked is fetched here.
    uv pip install --quiet --python "$python" --no-deps --no-build-isolation -e .
}

install_with_pip() {
    found=$(find_python)
    if ! "$found" -m venv "$venv"; then
        rm -rf "$venv"
        say "setup: $found cannot make a virtual environment. Debian keeps that apart: apt install python3-venv." \
            "Or install uv." >&2
        exit 1
    fi
    pip="$python -m pip --disable-pip-version-check install --quiet"
    $pip --require-hashes -r constraints.txt
    $pip --no-deps --no-build-isolation -e .
}

installed=$(cat "$stamp" 2>/dev/null || true)
if [ "$installed" = "$key" ] && [ "${1:-}" = --if-needed ]; then
    exit 0
fi
if [ "$installed" != "$key" ]; then
    # Not ours, half made, or moved here from elsewhere: its programs name another folder.
    if [ -d "$venv" ] && ! grep -qs "$(pwd)/" "$venv/bin/edgewise"; then
        rm -rf "$venv"
    fi
    rm -f "$stamp"
    if command -v uv >/dev/null; then
        say "setup: installing into $venv with uv"
        install_with_uv
    else
        say "setup: installing into $venv with pip (uv would be faster)"
        install_with_pip
    fi
fi
"$python" -m tools.sdists
"$python" -m tools.micropython_source || true # it has said what is missing; only native modules need it
"$python" -m tools.doctor --missing
say "$key" >"$stamp"
