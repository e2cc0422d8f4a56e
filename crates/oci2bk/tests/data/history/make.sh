#!/bin/sh
# Makes the build history and what else a builder leaves, with a real daemon, as root.
#
# Needs on PATH: buildkitd and buildctl v0.32.2, buildx v0.35.0, runc, busybox (static) at
# /bin/busybox, and `llbtool`, which is ../provenance/tool.go built. No network is used.
#
#   raw.pb             the definition that tool.go makes, whose op digests are ../provenance/raw.links
#   raw.jsonl          what `buildctl debug dump-llb` prints of it
#   steps.pb           the other definition that tool.go makes, for the end-to-end suite
#   history.links      every distinct "<op digest>@<output>" on a link of the daemon's cache.db
#   root/              of the daemon's root: history.db, cache.db, cache-debug.db and the blobs that
#                      hold the provenance of the two builds
#   one.dockerbuild    `buildx history export` of the newer build, as it is
#   all.dockerbuild    of both
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
daemon=
trap 'test -z "$daemon" || kill "$daemon"; rm -rf "$work"' EXIT

llbtool llb > "$here/raw.pb"
llbtool steps > "$here/steps.pb"
buildctl debug dump-llb "$here/raw.pb" > "$here/raw.jsonl"

mkdir -p "$work/bb/bin" "$work/context"
cp /bin/busybox "$work/bb/bin/busybox"
for name in sh echo; do
  ln "$work/bb/bin/busybox" "$work/bb/bin/$name"
done
cp "$here/../provenance/buildx.Dockerfile" "$work/context/Dockerfile"
cd "$work/context"

buildkitd --root "$work/root" --addr "unix://$work/sock" --oci-worker-snapshotter=overlayfs \
  --save-cache-debug 2> "$work/log" &
daemon=$!
until buildctl --addr "unix://$work/sock" debug workers > /dev/null 2>&1; do sleep 0.2; done

export BUILDX_CONFIG="$work/buildx" DOCKER_CONFIG="$work/docker" BUILDX_BUILDER=warm
buildx create --name warm --driver remote "unix://$work/sock" > /dev/null
build="buildx build --progress=quiet --provenance=false --build-context bb=$work/bb --output type=cacheonly"
$build --platform linux/amd64,linux/386 .
printf 'RUN ["/bin/sh", "-c", "echo second > /z"]\n' >> Dockerfile
$build .
# The daemon adds the trace of a build to its record some seconds later.
sleep 5
buildx history export --output "$here/one.dockerbuild"
buildx history export --all --output "$here/all.dockerbuild"

kill "$daemon"
wait "$daemon" || true
daemon=
llbtool links "$work/root/cache.db" > "$here/history.links"
blobs=runc-overlayfs/content/blobs/sha256
rm -rf "$here/root"
mkdir -p "$here/root/$blobs"
cp "$work/root/history.db" "$work/root/cache.db" "$work/root/cache-debug.db" "$here/root/"
for blob in $(grep -l '"buildDefinition"' "$work/root/$blobs"/*); do
  cp "$blob" "$here/root/$blobs/"
done
chmod 644 "$here"/root/*.db "$here/root/$blobs"/*
