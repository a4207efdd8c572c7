#!/usr/bin/env python3
"""table.py FAMILIES.json [TEST OUTPUT] -> the README's table of families, in Markdown.

FAMILIES.json as families.py writes it. TEST OUTPUT, if given, decides the columns "runs" and "quantizes" by
its lines "family NAME runs" and "family NAME quantizes", which a test prints when the family has passed it.
"""

import json
import sys

with open(sys.argv[1]) as f:
    rows = json.load(f)
if len(sys.argv) > 2:
    with open(sys.argv[2], errors="replace") as f:
        said = {tuple(x.split()[1:]) for x in f if x.startswith("family ") and len(x.split()) == 3}
    for row in rows:
        for what in ("runs", "quantizes"):
            row[what] = "yes" if (row["family"], what) in said else "no"
engines = sorted({e for row in rows for e in row["engines"]})


def cell(said):
    return {"D": "yes", "": "-"}.get(said.split(" ")[0], said.split(":")[0])


print("| family | runs | quantizes | " + " | ".join(f"read by {e}" for e in engines) + " |")
print("|---" * (3 + len(engines)) + "|")
for row in rows:
    cells = [row["family"], row["runs"].split(":")[0], row["quantizes"].split(":")[0]]
    print("| " + " | ".join(cells + [cell(row["engines"].get(e, "")) for e in engines]) + " |")
