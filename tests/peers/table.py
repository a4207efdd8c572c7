#!/usr/bin/env python3
"""table.py FAMILIES.json[,...] [TEST OUTPUT [README.md]] -> the README's table of families, in Markdown, to stdout or
between the README's marks.

FAMILIES.json as families.py writes it; what another one says of an engine is added, or said instead. TEST OUTPUT,
if given, decides the columns "runs" and "quantizes" by its lines "family NAME runs" and "family NAME quantizes",
which tests/test_model.c and tests/test_quantize_model.c print when the family has passed them.
"""

import json
import sys

FIXTURE = {"llama": "llama_gqa"}  # its name in the tests
TYPE = {"gemma3": "gemma3_text", "hunyuan_dense": "hunyuan_v1_dense"}  # its model_type, where that is another
ENGINES = {"transformers": "transformers", "gptqmodel": "GPTQModel", "vllm": "vLLM"}
FORMS = ("renamed", "with act.scales")  # in which an engine reads a file, by families.py
BEGIN, END = "<!-- families -->\n", "<!-- /families -->\n"

rows = []
for path in sys.argv[1].split(","):
    with open(path) as f:
        found = json.load(f)
    for old in rows:
        for new in found:
            if new["family"] == old["family"]:
                old["engines"].update(new["engines"])
    rows = rows or found
if len(sys.argv) > 2:
    with open(sys.argv[2], errors="replace") as f:
        said = {tuple(x.split()[1:]) for x in f if x.startswith("family ") and len(x.split()) == 3}
    for row in rows:
        for what in ("runs", "quantizes"):
            row[what] = "yes" if (FIXTURE.get(row["family"], row["family"]), what) in said else "no"
engines = [e for e in ENGINES if any(e in row["engines"] for row in rows)]


def cell(said):
    what = said.split(":")[0]
    return {"": "-", "D": "yes"}.get(what.split(" ")[0], f"yes, {what}" if what in FORMS else what)


lines = ["| family | runs | quantizes | " + " | ".join(f"read by {ENGINES[e]}" for e in engines) + " |"]
lines.append("|---" * (3 + len(engines)) + "|")
for row in rows:
    cells = [TYPE.get(row["family"], row["family"]), row["runs"].split(":")[0], row["quantizes"].split(":")[0]]
    lines.append("| " + " | ".join(cells + [cell(row["engines"].get(e, "")) for e in engines]) + " |")
text = "\n".join(lines) + "\n"
if len(sys.argv) > 3:
    with open(sys.argv[3]) as f:
        readme = f.read()
    before, rest = readme.split(BEGIN)
    with open(sys.argv[3], "w") as f:
        f.write(before + BEGIN + text + END + rest.split(END)[1])
else:
    print(text, end="")
