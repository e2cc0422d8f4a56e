#!/bin/sh
# make-files.sh DIR COUNT BLOCKS SEED
#
# Makes COUNT files of BLOCKS blocks of 4 KiB in directories of a hundred below DIR: the same ones whenever the arguments are
# the same. The blocks are hexadecimal digits, which gzip halves, of a pool too large for its window.
set -e
mkdir -p "$1"
awk -v dir="$1" -v count="$2" -v blocks="$3" -v x="$4" '
# The generator of Park and Miller; its products fit the 53 bits that awk computes with.
function draw() { x = x * 16807 % 2147483647; return x }
BEGIN {
    for (b = 0; b < 64; b++) for (w = 0; w < 512; w++) pool[b] = pool[b] sprintf("%08x", draw())
    for (f = 0; f < count; f++) {
        if (f % 100 == 0) { sub_dir = dir "/" f / 100; system("mkdir -p " sub_dir) }
        name = sub_dir "/" f
        for (b = 0; b < blocks; b++) printf "%s", pool[draw() % 64] > name
        close(name)
    }
}'
# Times are part of a layer, too.
find "$1" -exec touch -d @0 {} +
