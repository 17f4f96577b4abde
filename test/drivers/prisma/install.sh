#!/usr/bin/env bash
# Installs package.json's packages into $BUILD and generates the client, unless that has been done. Prisma's schema engine, which
# only its migrations need, would come from a host of its own: the variable tells `generate` not to fetch it. Queries are
# compiled by WebAssembly that is part of the client's npm package.
set -euo pipefail
if ! cat package.json schema.prisma | cmp -s - "$BUILD/installed"; then
  cp package.json schema.prisma "$BUILD/"
  (
    cd "$BUILD"
    npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error
    PRISMA_SCHEMA_ENGINE_BINARY=$(type -P true) node_modules/.bin/prisma generate --schema schema.prisma
  )
  cat package.json schema.prisma >"$BUILD/installed"
fi
cp ./*.mjs ../node/harness.mjs ../node/common.mjs "$BUILD/"
