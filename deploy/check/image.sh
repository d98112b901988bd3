#!/usr/bin/env bash
# Build the image without a daemon and without a registry, and run it: `make image-check` (Debian and its kin, as root).
#
# buildah builds deploy/Dockerfile over a base of Debian's packages, made by mmdebstrap. The image then runs as its user, on a
# read-only root, against the test broker: /readyz, 10,000 events, SIGTERM. Usage: image.sh FOLDER (for what is kept).
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(realpath -m "${1:-.tools/image}")
port=19599 http=19464 events=10000
mkdir -p "$folder"
for package in buildah mmdebstrap; do
  command -v "$package" >/dev/null || { apt-get update -qq; apt-get install -y -qq --no-install-recommends "$package"; }
done
export STORAGE_DRIVER=vfs

if ! buildah inspect --type image localhost/streammeta-base:check >/dev/null 2>&1; then
  echo "image-check: making the base, once (a few minutes)"
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,python3-dev,ca-certificates,procps bookworm "$folder/base.tar"
  made=$(buildah from scratch)
  buildah add -q "$made" "$folder/base.tar" /
  buildah copy -q "$made" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt  # also of a company's proxy
  buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$made"
  buildah commit -q "$made" localhost/streammeta-base:check
  buildah rm "$made" >/dev/null
fi

buildah bud --quiet --format docker --layers --isolation chroot --pull-never --build-arg BASE=localhost/streammeta-base:check \
  --target serve -f deploy/Dockerfile -t localhost/streammeta:check . >/dev/null
container=$(buildah from --pull-never localhost/streammeta:check)
root=$(buildah mount "$container")
broker='' member=''
finish() {
  [ -z "$member" ] || kill -KILL "$member" 2>/dev/null || true
  [ -z "$broker" ] || { kill "$broker" 2>/dev/null && wait "$broker" || true; }
  buildah rm "$container" >/dev/null
}
trap finish EXIT
size=$(buildah inspect --format '{{.OCIv1.Config.User}}' --type image localhost/streammeta:check)
[ "$size" = 10001:10001 ] || { echo "image-check: the image's user is $size, wanted 10001:10001" >&2; exit 1; }
echo "image-check: $(du -sm "$root/opt/streammeta" | cut -f1) MB of streammeta and its packages, base not counted"

inside() {  # as the image's user, on its root, of which nothing but /scratch can be written; takes the shell's place
  exec unshare --mount bash -c '
    root=$1; shift
    mount --bind "$root" "$root" && mount -o remount,bind,ro "$root"
    mount -t tmpfs -o uid=10001,gid=10001 tmpfs "$root/scratch"
    mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev"
    exec chroot --userspec=10001:10001 "$root" /usr/bin/env -i PATH=/opt/streammeta/bin:/usr/bin:/bin TMPDIR=/scratch \
      HOME=/scratch STREAMMETA_LOG__FORMAT=json "STREAMMETA_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:'$port'" \
      "STREAMMETA_HTTP__PORT='$http'" "$@"' inside "$root" "$@"
}

within() {  # SECONDS WHAT COMMAND…: until it succeeds
  local seconds=$1 what=$2 begun=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    if [ $((SECONDS - begun)) -ge "$seconds" ]; then
      echo "image-check: $what took longer than $seconds s" >&2
      tail -5 "$folder/run.log" >&2 || true
      exit 1
    fi
    sleep 0.2
  done
  echo "image-check: $what after $((SECONDS - begun)) s"
}

page() { .venv/bin/python -c "import sys, urllib.request as u; print(u.urlopen('http://127.0.0.1:$http/$1', timeout=2).read().decode())"; }
all_predicted() { page metrics | grep -q "^streammeta_events_total{fate=\"predicted\"} $events.0"; }

(inside streammeta --version)
.venv/bin/python -m deploy.broker --port "$port" >"$folder/broker.log" 2>&1 &
broker=$!
within 120 "the broker answers" .venv/bin/python -c "import socket; socket.create_connection(('127.0.0.1', $port), 1).close()"
(inside streammeta simulate shared-representation --events "$events" --tasks 100 --to "kafka://127.0.0.1:$port/events")
inside streammeta run >"$folder/run.log" 2>&1 &
member=$!
within "${READY_SECONDS:-60}" "/readyz answers" page readyz
within 120 "$events events are predicted" all_predicted
kill -TERM "$member"
begun=$SECONDS status=0
wait "$member" || status=$?
member=''
[ "$status" = 0 ] || { echo "image-check: SIGTERM ended it with status $status" >&2; tail -5 "$folder/run.log" >&2; exit 1; }
echo "image-check: SIGTERM, status 0 after $((SECONDS - begun)) s"
