#!/usr/bin/env bash
# The steps of the check, which .github/workflows/check.yml and other CI services run: `check.sh evaluate|judge|register`.
#
# Read from the environment: PROJECT (below ./project), CHECKPOINT (in it; may be empty), BASE (the branch that a pull request goes
# into; empty elsewhere), SHARD (I/N, for evaluate). Shares go through ./shards; what people read into ./report.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PATH="$here/bin:$PATH"
# Artifacts lose the permission.
chmod +x "$here/bin/detgate"
out="$PWD"
cd "project/${PROJECT:-.}"

flags=()
if [ -n "${CHECKPOINT:-}" ]; then
  flags+=(--checkpoint "$CHECKPOINT")
fi

evaluate() {
  # The change's own settings must not say from where the model that is judged comes.
  if [[ "${CHECKPOINT:-}" == models:* && -z "${MLFLOW_TRACKING_URI:-}" ]]; then
    echo "error: $CHECKPOINT needs MLFLOW_TRACKING_URI, which a pull request from a fork does not get" >&2
    return 2
  fi
  mkdir -p "$out/shards"
  detgate eval --no-register --quiet --shard "$SHARD" --shard-file "$out/shards/${SHARD/\//-of-}.shard" "${flags[@]}"
}

judge() {
  local target=()
  if [ -n "${BASE:-}" ]; then
    target=(--target "origin/$BASE")
  fi
  local code=0
  # What the change brings along there is no result.
  rm -rf reports
  detgate merge --no-register "${target[@]}" "$out/shards" || code=$?
  if [ ! -e reports/evaluation.json ]; then
    return "$code"
  fi
  mkdir -p "$out/report"
  {
    echo "<!-- detgate ${PROJECT:-.} -->"
    if [ -s reports/target/changes.md ]; then
      echo "**What this change does to its own bar:**"
      echo
      cat reports/target/changes.md
      echo
    fi
    detgate report --from reports/evaluation.json --format markdown
  } > "$out/report/comment.md"
  cp reports/evaluation.json "$out/report/"
  if [ -e reports/evaluation.html ]; then
    cp reports/evaluation.html "$out/report/"
  fi
  detgate report --from reports/evaluation.json --format junit --output "$out/report/junit.xml"
  if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
    cat "$out/report/comment.md" >> "$GITHUB_STEP_SUMMARY"
    detgate report --from reports/evaluation.json --format github
  fi
  return "$code"
}

register() {
  detgate merge "${flags[@]}" "$out/shards"
}

case "${1:-}" in
  evaluate | judge | register) "$1" ;;
  *)
    echo "usage: check.sh evaluate|judge|register" >&2
    exit 2
    ;;
esac
