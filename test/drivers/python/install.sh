#!/usr/bin/env bash
# Installs requirements.txt into a virtual environment in $BUILD, unless that has been done.
set -euo pipefail
if cmp -s requirements.txt "$BUILD/installed"; then exit 0; fi
python3 -m venv "$BUILD/venv"
"$BUILD/venv/bin/pip" install -q --disable-pip-version-check -r requirements.txt
cp requirements.txt "$BUILD/installed"
