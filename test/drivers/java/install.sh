#!/usr/bin/env bash
# Compiles into $BUILD/classes, with what it needs in $BUILD/lib, unless that has been done for these very sources.
set -euo pipefail
cat pom.xml src/drivers/*.java > "$BUILD/sources"
if cmp -s "$BUILD/sources" "$BUILD/installed"; then exit 0; fi
rm -rf "$BUILD/lib" "$BUILD/classes"
mvn -q -B compile
mv "$BUILD/sources" "$BUILD/installed"
