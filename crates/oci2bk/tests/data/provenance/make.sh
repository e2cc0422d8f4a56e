#!/bin/sh
# Makes the provenance and the expected op digests beside it, with a real daemon, as root.
#
# Needs on PATH: buildkitd and buildctl v0.32.2, buildx v0.35.0, runc, busybox (static) at
# /bin/busybox, and `llbtool`, which is tool.go built. No network is used.
#
#   *.links             every distinct "<op digest>@<output>" on a link of the daemon's cache.db
#   dockerfile.*.json   in-toto statements of the build of Dockerfile, SLSA v1 and v0.2
#   raw.*.json          the same for the LLB that tool.go makes
#   metadata*.json      --metadata-file of buildx build (one and two platforms) and bake
#   cache.db            the cache.db of the buildx builds
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
daemon=
trap 'test -z "$daemon" || kill "$daemon"; rm -rf "$work"' EXIT

mkdir -p "$work/bb/bin" "$work/bb/etc" "$work/bb/tmp" "$work/context/dir/sub" "$work/context/more"
cp /bin/busybox "$work/bb/bin/busybox"
for name in sh ls cat date true touch echo test id ash; do
  ln "$work/bb/bin/busybox" "$work/bb/bin/$name"
done
printf 'root:x:0:0::/:/bin/sh\njoe:x:1234:1234::/:/bin/sh\n' > "$work/bb/etc/passwd"
printf 'root:x:0:\nstaff:x:50:\n' > "$work/bb/etc/group"
cd "$work/context"
echo one > one.txt
echo two > two.txt
echo deep > dir/sub/deep.txt
echo log > dir/x.log
echo more > more/more.txt
tar -czf archive.tar.gz dir
echo secret > "$work/token"

start() {
  rm -rf "$work/root"
  buildkitd --root "$work/root" --addr "unix://$work/sock" --oci-worker-snapshotter=overlayfs \
    --allow-insecure-entitlement security.insecure --allow-insecure-entitlement network.host \
    2> "$work/log" &
  daemon=$!
  until buildctl --addr "unix://$work/sock" debug workers > /dev/null 2>&1; do sleep 0.2; done
}

# Stops the daemon and lists the op digests it used.
finish() {
  kill "$daemon"
  wait "$daemon" || true
  daemon=
  llbtool links "$work/root/cache.db" > "$here/$1.links"
}

# statement NAME BUILDCTL-OPTION...: builds, and keeps the in-toto statement of the image.
statement() {
  name=$1
  shift
  rm -rf "$work/image"
  buildctl --addr "unix://$work/sock" build --progress=quiet --local "bb=$work/bb" \
    --allow security.insecure --allow network.host --secret "id=tok,src=$work/token" \
    --output "type=oci,dest=$work/image,tar=false" "$@"
  cp "$(grep -l '"predicateType"' "$work"/image/blobs/sha256/*)" "$here/$name.json"
}

start
for version in v1 v0.2; do
  statement "dockerfile.$version" --opt "attest:provenance=mode=max,version=$version" \
    --frontend dockerfile.v0 --local "dockerfile=$here" --local context=. \
    --opt context:bb=local:bb --opt build-arg:VALUE=v1 --opt hostname=builder \
    --opt add-hosts=db=10.0.0.1 --opt ulimit=nofile=1024:2048 --opt cgroup-parent=/x
done
finish dockerfile

start
llbtool llb > "$work/llb"
for version in v1 v0.2; do
  statement "raw.$version" --opt "attest:provenance=mode=max,version=$version" < "$work/llb"
done
finish raw

start
export BUILDX_CONFIG="$work/buildx" DOCKER_CONFIG="$work/docker" BUILDX_METADATA_PROVENANCE=max
cp "$here/buildx.Dockerfile" buildx.Dockerfile
cat > bake.json <<END
{"group": {"default": {"targets": ["one", "two"]}},
 "target": {
   "one": {"dockerfile": "buildx.Dockerfile", "contexts": {"bb": "../bb"}, "output": ["type=cacheonly"]},
   "two": {"inherits": ["one"]}}}
END
buildx create --name warm --driver remote "unix://$work/sock" > /dev/null
build="buildx --builder warm build --progress=quiet -f buildx.Dockerfile --build-context bb=$work/bb"
$build --metadata-file "$here/metadata.json" --output "type=oci,dest=$work/out.tar" .
$build --metadata-file "$here/metadata-platforms.json" --output "type=oci,dest=$work/out.tar" \
  --platform linux/amd64,linux/386 .
buildx --builder warm bake --allow=fs.read=/ --progress=quiet -f bake.json \
  --metadata-file "$here/metadata-bake.json"
finish buildx
cp "$work/root/cache.db" "$here/cache.db"
