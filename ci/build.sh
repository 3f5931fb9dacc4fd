#!/usr/bin/env bash
# Builds detgate with all that the check needs into a folder: `build.sh DIST`. Needs Rust and a C++ compiler.
set -euo pipefail
dist="$(mkdir -p "$1" && cd "$1" && pwd)"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
libtorch="$(cargo xtask libtorch)"
LIBTORCH="$libtorch" cargo build --locked --release --features torch,mlflow
mkdir -p "$dist/lib"
cp "${CARGO_TARGET_DIR:-target}/release/detgate" ci/check.sh ci/comment.py "$dist/"
# Of libtorch only what the program loads.
LD_LIBRARY_PATH="$libtorch/lib" ldd "$dist/detgate" | awk -v from="$libtorch/lib/" 'index($3, from) == 1 { print $3 }' \
  | xargs --no-run-if-empty cp --dereference --target-directory "$dist/lib"
