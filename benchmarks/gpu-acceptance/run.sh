#!/bin/sh
# The acceptance run from a packed bundle (pack.mjs), on a host that need have neither Node nor a compiler: unpacks beside
# itself, runs every part within its time and writes acceptance.json to $OUT, else to the current folder.
# Usage: run.sh [--part training|generation] [--seconds N] [--dry-run]
set -u
begin=$(date +%s)
out=${OUT:-$PWD}
bundle=$(cd "$(dirname "$0")" && pwd)
work=${WIDESEEK_ACCEPTANCE_DIR:-${TMPDIR:-/tmp}/wideseek-acceptance}
mkdir -p "$out" || exit 1

# What acceptance.ts would write, had it been able to start.
give_up() {
  reason=$(printf '%s' "$1" | tr -d '"\\' | tr '\n\t' '  ')
  gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '"\\')
  printf '{"commit": "%s", "device": "%s", "complete": false, "parts": [{"name": "unpack", "status": "failed", "reason": "%s"}], "figures": []}\n' \
    "$(sed -n 's/.*"commit": *"\([^"]*\)".*/\1/p' "$bundle/manifest.json" 2>/dev/null)" "${gpu:-no GPU}" "$reason" >"$out/acceptance.json"
  echo "$reason" >&2
  exit 1
}

# xz where it is there, else Python's lzma.
decompress() {
  if command -v xz >/dev/null 2>&1; then xz -dc -T0 "$1"
  else python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer, 1 << 20)' "$1"
  fi
}

rm -rf "$work" && mkdir -p "$work" || give_up "could not make $work"
decompress "$bundle/app.tar.xz" | tar -C "$work" -xf - || give_up "app.tar.xz could not be unpacked: is xz or python3 there?"
decompress "$bundle/node.xz" >"$work/node" && chmod +x "$work/node" || give_up "node.xz could not be unpacked"
version=$("$work/node" --version 2>&1) || give_up "Node does not start on this host: $version"
echo "Node $version unpacked to $work"

PATH=$work:$PATH
WIDESEEK_ACCEPTANCE_BEGIN=$begin
WIDESEEK_UNPACK_SECONDS=$(($(date +%s) - begin))
export PATH WIDESEEK_ACCEPTANCE_BEGIN WIDESEEK_UNPACK_SECONDS
"$work/node" "$work/benchmarks/gpu-acceptance/acceptance.ts" --out "$out" "$@"
status=$?
[ -f "$out/acceptance.json" ] || give_up "acceptance.ts ended with $status before it wrote anything"
exit $status
