#!/bin/sh
# Makes the databases in this directory with Go's bbolt, from the scripts beside them.
# The last run was with bbolt v1.5.0 and Go 1.26.
set -eu
cd "$(dirname "$0")"
program=$(mktemp)
trap 'rm -f "$program"' EXIT
(cd ../bolt-interop && go build -o "$program" .)
rm -f ./*.db
"$program" apply mixed.db <mixed.ops
"$program" apply -page-size 1024 small-pages.db <small-pages.ops
"$program" apply -no-freelist-sync no-freelist.db <mixed.ops
