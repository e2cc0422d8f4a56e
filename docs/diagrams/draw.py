#!/usr/bin/env python3
"""Draws the diagrams of the documentation.

    docs/diagrams/draw.py DIRECTORY

writes every diagram into DIRECTORY, as SVG. What is drawn is said below, in words and numbers; nothing depends on the
machine, so the committed files can be compared with new ones, which the test suite does.
"""

import sys
from html import escape
from pathlib import Path

INK, FAINT, PAPER = "#1f2933", "#6b7785", "#ffffff"
PALETTE = {  # fill and edge
    "plain": ("#f4f6f8", "#9aa5b1"),
    "ours": ("#fff3d6", "#c98a00"),
    "keys": ("#e6f0ff", "#3b73b9"),
    "files": ("#e7f6ec", "#3a8f5c"),
    "warm": ("#fde8e4", "#c4533a"),
}
SANS = "Helvetica, Arial, sans-serif"
MONO = "Menlo, Consolas, 'DejaVu Sans Mono', monospace"
LINE = 19


class Drawing:
    def __init__(self, width, height, title):
        self.parts = []
        self.head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" font-family="{SANS}" font-size="13">\n<title>{escape(title)}</title>\n'
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{INK}"/></marker></defs>\n'
            f'<rect width="{width}" height="{height}" fill="{PAPER}"/>\n'
        )

    def text(self, x, y, text, *, size=13, weight="normal", colour=INK, mono=False, anchor="start"):
        font = f' font-family="{MONO}"' if mono else ""
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
            f'text-anchor="{anchor}" xml:space="preserve"{font}>{escape(text)}</text>'
        )

    def region(self, x, y, width, height, label):
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="10" fill="none" stroke="#c3ccd6" '
            'stroke-dasharray="5 4"/>'
        )
        self.text(x + 14, y + 24, label, size=14, weight="bold", colour=FAINT)

    def box(self, x, y, width, title, lines, *, kind="plain", mono_title=False):
        """A box with a title; a line that starts with `=` is in the font of code."""
        fill, edge = PALETTE[kind]
        height = 38 + LINE * len(lines)
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{edge}" '
            'stroke-width="1.4"/>'
        )
        self.text(x + 12, y + 21, title, weight="bold", mono=mono_title)
        self.parts.append(f'<path d="M{x} {y + 30}H{x + width}" stroke="{edge}" stroke-width="0.8"/>')
        for number, line in enumerate(lines):
            code = line.startswith("=")
            self.text(x + 12, y + 48 + LINE * number, line.lstrip("="), size=12, mono=code)

    def arrow(self, *points, label=None, at=None, number=None, dashed=False, tip=True):
        path = "M" + "L".join(f"{x} {y}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        end = ' marker-end="url(#tip)"' if tip else ""
        self.parts.append(f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.4"{dash}{end}/>')
        if number is not None:
            x, y = at
            self.parts.append(f'<circle cx="{x}" cy="{y}" r="10" fill="{INK}"/>')
            self.text(x, y + 4, str(number), size=12, weight="bold", colour=PAPER, anchor="middle")
        elif label:
            self.text(*at, label, size=12, colour=FAINT, anchor="middle")

    def write(self, path):
        Path(path).write_text(self.head + "\n".join(self.parts) + "\n</svg>\n", encoding="utf-8")


def data_flow():
    d = Drawing(1000, 470, "From a build in CI, through the registry and the bake, to a warm build")

    d.region(15, 15, 225, 440, "In CI")
    d.box(35, 55, 185, "build", ["=buildctl, buildx"])
    d.box(35, 170, 185, "cache export", ["layers", "steps, by hashes"], kind="files")
    d.box(35, 280, 185, "provenance", ["op digests, arguments"], kind="keys")
    d.box(35, 380, 185, "oci2bk keys attach", ["keeps digests only"], kind="ours")
    d.arrow((127, 112), (127, 168))
    d.arrow((35, 84), (25, 84), (25, 308), (33, 308))
    d.arrow((127, 337), (127, 378))

    d.region(262, 15, 195, 440, "Registry")
    d.box(280, 170, 160, "cache:latest", ["manifest", "layers"], kind="files", mono_title=True)
    d.box(280, 370, 160, "keys", ["an artifact that", "refers to the cache"], kind="keys")
    d.arrow((220, 207), (278, 207))
    d.arrow((220, 409), (278, 409))
    d.arrow((360, 370), (360, 248), label="refers to", at=(392, 313), dashed=True)

    d.region(479, 15, 265, 440, "In the bake, no daemon")
    d.box(500, 55, 224, "layout", ["=regctl image copy --referrers"], kind="files")
    d.box(
        500,
        160,
        224,
        "oci2bk convert",
        ["1  read, check sizes and limits", "2  confirm keys by their hashes", "3  plan", "4  unpack layers in parallel",
         "5  write the databases", "6  verify all of it", "7  publish, step by step"],
        kind="ours",
    )
    d.box(500, 385, 224, "/var/lib/buildkit", ["=oci2bk verify"], kind="warm", mono_title=True)
    d.arrow((440, 207), (468, 207), tip=False)
    d.arrow((440, 409), (468, 409), (468, 84), (498, 84))
    d.arrow((612, 112), (612, 158))
    d.arrow((612, 331), (612, 383))

    d.region(766, 15, 220, 440, "On the builder")
    d.box(785, 385, 182, "buildkitd", ["starts on the root"], kind="plain")
    d.box(785, 270, 182, "garbage collection", ["removes nothing that", "is within its limits"], kind="plain")
    d.box(785, 135, 182, "first build", ["no import", "no download", "every step CACHED"], kind="warm")
    d.arrow((724, 413), (783, 413))
    d.arrow((876, 383), (876, 348))
    d.arrow((876, 268), (876, 233))
    d.text(876, 80, "only what has changed", size=12, colour=FAINT, anchor="middle")
    d.text(876, 97, "is built", size=12, colour=FAINT, anchor="middle")
    d.arrow((876, 133), (876, 108))
    return d


def state():
    d = Drawing(1000, 610, "The state directory: which file names what in which other file")
    d.text(20, 32, "/var/lib/buildkit", size=15, weight="bold", mono=True)
    d.region(300, 50, 685, 545, "runc-overlayfs/")

    d.box(20, 60, 240, "a build", ["op digest of the step,", "keys or contents of its inputs"], kind="plain")
    d.box(20, 195, 240, "cache.db", ["=_links   key, input -> key", "=_result  key -> results", "=WORKER::RECORD"],
          kind="keys", mono_title=True)
    d.box(20, 465, 240, "buildkitd.lock", ["one daemon, or one", "conversion, at a time"], mono_title=True)
    d.arrow((140, 136), (140, 193), number=1, at=(140, 164))

    d.box(325, 90, 270, "workerid", ["=WORKER"], kind="keys", mono_title=True)
    d.box(
        325,
        195,
        270,
        "metadata_v2.db",
        ["=_main/RECORD", "=  cache.parent    RECORD", "=  cache.blob      DIGEST", "=  cache.diffID, cache.chainID",
         "=  cache.snapshot  KEY", "=  cache.lastUsedAt, usageCount", "=_index   chainID -> RECORD"],
        kind="keys",
        mono_title=True,
    )
    d.arrow((260, 235), (285, 235), (285, 118), (323, 118), number=2, at=(285, 176))
    d.arrow((260, 272), (323, 272), number=3, at=(285, 272))

    d.box(
        665,
        195,
        300,
        "containerdmeta.db",
        ["=leases/RECORD", "  keeps blob and snapshot from collection", "=content/blob/DIGEST",
         "=snapshots/overlayfs/KEY -> NAME"],
        kind="keys",
        mono_title=True,
    )
    d.arrow((595, 272), (663, 272), number=4, at=(629, 272))

    d.box(665, 355, 300, "snapshots/metadata.db", ["=NAME -> ID, parent NAME, size"], kind="keys", mono_title=True)
    d.arrow((815, 309), (815, 353), number=5, at=(815, 330))

    d.box(665, 465, 300, "snapshots/snapshots/ID/fs", ["one layer, unpacked; a step runs on", "an overlay mount of all below it"],
          kind="files", mono_title=True)
    d.arrow((815, 412), (815, 463))
    d.box(325, 465, 270, "content/blobs/sha256/DIGEST", ["one layer, packed: as it was", "pulled, and will be pushed"],
          kind="files", mono_title=True)
    d.arrow((665, 280), (640, 280), (640, 440), (460, 440), (460, 463))
    d.text(325, 570, "Keys and ids", size=12, colour=FAINT)
    d.parts.append(f'<rect x="405" y="560" width="16" height="12" rx="3" fill="{PALETTE["keys"][0]}" '
                   f'stroke="{PALETTE["keys"][1]}"/>')
    d.text(450, 570, "Files of layers", size=12, colour=FAINT)
    d.parts.append(f'<rect x="540" y="560" width="16" height="12" rx="3" fill="{PALETTE["files"][0]}" '
                   f'stroke="{PALETTE["files"][1]}"/>')
    return d


def main():
    directory = Path(sys.argv[1])
    data_flow().write(directory / "data-flow.svg")
    state().write(directory / "state.svg")


if __name__ == "__main__":
    main()
