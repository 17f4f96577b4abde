#!/usr/bin/env bash
# Installs package.json's packages into $BUILD, unless that has been done. Node.js looks for packages above the file that
# imports them: the programs are copied there too.
set -euo pipefail
if ! cmp -s package.json "$BUILD/installed"; then
  cp package.json "$BUILD/"
  (cd "$BUILD" && npm install --no-package-lock --no-audit --no-fund --loglevel=error)
  cp package.json "$BUILD/installed"
fi
cp ./*.mjs "$BUILD/"
