"""JSON schemas against the jsonschema package: every sentence that awq.h allows must parse and validate; what
jsonschema rejects must not be a sentence; a valid value written in several ways must be one.
    python3 tests/peers/schema.py [SENTENCES PER SCHEMA, default 200]
Builds tests/peers/schema.c and, where jsonschema is missing, a virtual environment in build/peers."""
import copy, json, os, random, subprocess, sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, "build", "peers")

try:
    import jsonschema
except ImportError:
    python = os.path.join(BUILD, "venv-schema", "bin", "python")
    if os.path.realpath(sys.prefix) == os.path.realpath(os.path.join(BUILD, "venv-schema")):
        sys.exit("schema.py: jsonschema cannot be installed")
    if not os.path.exists(python):
        os.makedirs(BUILD, exist_ok=True)
        subprocess.check_call([sys.executable, "-m", "venv", os.path.join(BUILD, "venv-schema")])
    subprocess.check_call([python, "-m", "pip", "-q", "install", "jsonschema", "rfc3339-validator"])
    os.execv(python, [python] + sys.argv)

def obj(properties, *required, **more):
    return dict({"type": "object", "properties": properties, "required": list(required)}, **more)

TREE = {"$ref": "#/$defs/tree", "$defs": {"tree": obj({"value": {"type": "integer"}, "left": {"anyOf": [
    {"$ref": "#/$defs/tree"}, {"type": "null"}]}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}, "value")}}
S, I, N, B = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}

SCHEMAS = {
    "true": True, "any": {}, "string": S, "integer": I, "number": N, "boolean": B, "null": {"type": "null"},
    "array": {"type": "array"}, "object": {"type": "object"},
    "types": {"type": ["string", "null", "integer"]}, "types2": {"type": ["number", "array"], "items": B, "maxItems": 3},
    "flat": obj({"name": S, "age": I, "tall": B}, "name", "age"),
    "all optional": obj({"a": I, "b": I, "c": I}),
    "middle required": obj({"a": I, "b": I, "c": I, "d": I}, "b"),
    "last required": obj({"a": I, "b": I, "c": I}, "c"),
    "first and last": obj({"a": I, "b": I, "c": I, "d": S}, "a", "d"),
    "all required": obj({"a": I, "b": S}, "a", "b"),
    "closed": obj({"a": I, "b": S}, "a", additionalProperties=False),
    "open": obj({"ab": I, "abc": B, "b": B, "\u00e9a": B, "\u00e9": I}, "b", additionalProperties=True),
    "more integers": obj({"ab": S, "a": S}, additionalProperties=I),
    "more required": obj({"ab": S, "a": S}, "a", additionalProperties=B),
    "map": {"type": "object", "additionalProperties": {"type": "array", "items": I}},
    "empty object": {"type": "object", "properties": {}, "additionalProperties": False},
    "required only": {"type": "object", "required": ["x", "y"]},
    "nested": obj({"a": obj({"b": obj({"c": {"type": "array", "items": obj({"d": S})}}, "c")}, "b")}, "a"),
    "odd keys": obj({"a\"b": I, "c\\d": I, "\u00e9\u20ac\U0001f600": I, "new\nline": I, "": I}, "a\"b", ""),
    "items": {"type": "array", "items": S}, "items 2..3": {"type": "array", "items": I, "minItems": 2, "maxItems": 3},
    "items 1..": {"items": I, "minItems": 1}, "items ..1": {"type": "array", "maxItems": 1},
    "items 0": {"type": "array", "maxItems": 0},
    "tuple": {"type": "array", "prefixItems": [S, I]},
    "tuple short": {"type": "array", "prefixItems": [S, I, B], "minItems": 1},
    "tuple more": {"type": "array", "prefixItems": [S, I], "items": B, "maxItems": 5, "minItems": 0},
    "tuple closed": {"type": "array", "prefixItems": [S, I], "items": False, "minItems": 2},
    "enum": {"enum": ["red", "green", "gr\u00fcn", "a\"b\\c\n", "", 1, -2.5, None, True, [1, "x"], {"a": 1}]},
    "enum strings": {"type": "string", "enum": ["go", "gold", "golden", 3]},
    "const": {"const": {"a": [1, 2, {"b": None}]}}, "const string": {"const": "\u20ac"},
    "length": {"type": "string", "minLength": 2, "maxLength": 4}, "length 3..": {"minLength": 3, "type": "string"},
    "length ..2": {"type": "string", "maxLength": 2},
    "pattern": {"type": "string", "pattern": "^[a-c]{2,3}x?(foo|ba[rz])+$"},
    "pattern free": {"type": "string", "pattern": "ab+c"}, "pattern half": {"type": "string", "pattern": "^-?\\d+"},
    "pattern ends": {"type": "string", "pattern": "^a|b$"},
    "pattern quote": {"type": "string", "pattern": "^\"\\\\[^\\]a]\\/\\t$"},
    "pattern sets": {"type": "string", "pattern": "^[\\w.-]+@[\\w-]+\\.[a-z]{2,}(?:;\\u00e9[^a-z\\s])?$"},
    "pattern dot": {"type": "string", "pattern": "^.{3}$"},
    "pattern lazy": {"type": "string", "pattern": "^(a*?b+?){2}$"},
    "pattern empty": {"type": "string", "pattern": "^(|x)$"},
    "date": {"type": "string", "format": "date"}, "time": {"type": "string", "format": "time"},
    "date-time": {"format": "date-time"}, "uuid": {"type": "string", "format": "uuid"},
    "ipv4": {"type": "string", "format": "ipv4"},
    "0..": {"type": "integer", "minimum": 0}, "..-7": {"type": "integer", "maximum": -7},
    "-12..345": {"type": "integer", "minimum": -12, "maximum": 345},
    "above below": {"type": "integer", "exclusiveMinimum": 99, "exclusiveMaximum": 1001},
    "1.5..7.5": {"type": "integer", "minimum": 1.5, "maximum": 7.5},
    "64 bit": {"type": "integer", "minimum": -2**63, "maximum": 2**63 - 1},
    "number 0..1": {"type": "number", "minimum": 0, "maximum": 1},
    "number in (0, 1)": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "number -1.5..2.25": {"type": "number", "minimum": -1.5, "maximum": 2.25},
    "number 0.05..": {"type": "number", "minimum": 0.05}, "number ..-3": {"type": "number", "maximum": -3},
    "number (9.99, 10.01)": {"type": "number", "exclusiveMinimum": 9.99, "exclusiveMaximum": 10.01},
    "number [-20.5, 100)": {"type": "number", "minimum": -20.5, "exclusiveMaximum": 100},
    "number 3": {"type": "number", "minimum": 3, "maximum": 3},
    "anyOf": {"anyOf": [S, {"type": "integer", "minimum": 3}, obj({"a": I}, "a")]},
    "oneOf": {"oneOf": [{"type": "integer"}, {"type": "string"}]},
    "allOf one": {"allOf": [{"$ref": "#/definitions/x"}], "definitions": {"x": obj({"a": I}, "a")}},
    "allOf": {"allOf": [obj({"a": I}, "a"), {"$ref": "#/$defs/b"}], "properties": {"c": B}, "required": ["c"],
              "$defs": {"b": {"properties": {"b": S}}}},
    "ref": obj({"home": {"$ref": "#/$defs/address"}, "work": {"$ref": "#/$defs/address"}}, "home",
               **{"$defs": {"address": obj({"street": S, "zip": {"type": "string", "pattern": "^\\d{5}$"}}, "street")}}),
    "ref pointer": obj({"a/b": {"type": "array", "prefixItems": [I, S]}, "c": {"$ref": "#/properties/a~1b/prefixItems/1"}}, "c"),
    "tree": TREE, "self": obj({"next": {"$ref": "#"}, "v": I}, "v"),
    "false inside": obj({"a": False, "b": I}), "bools": {"anyOf": [False, {"type": "boolean"}]},
    "annotated": {"title": "t", "description": "d", "default": 1, "examples": [1], "deprecated": True, "readOnly": False,
                  "writeOnly": False, "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:x",
                  "$comment": "c", "type": "integer"},
    "unique no": {"type": "array", "items": I, "uniqueItems": False},
    "60 optional": obj({"p%d" % i: {"enum": [i]} for i in range(60)}),
}

def validator(schema):
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)

def mutations(value, rng):
    """values near this one, most of them wrong"""
    yield from (None, True, 0, -1, 7, 1000001, 2.5, -0.001, "", "x", "zz9", [], {}, [value], {"a": value})
    if isinstance(value, bool) or value is None: return
    if isinstance(value, (int, float)):
        for d in (1, -1, 10, -10, 100, -1000, 0.5, -0.01): yield value + d
        yield -value
        yield str(value)
    elif isinstance(value, str):
        for i in sorted(rng.sample(range(len(value) + 1), min(len(value) + 1, 6))):
            yield value[:i] + rng.choice("aZ09 -\"\\\n\u00e9") + value[i:]
            yield value[:i] + value[i + 1:]
            if i < len(value): yield value[:i] + rng.choice("aZ09 -\"\\\n\u00e9") + value[i + 1:]
        yield value + value
    elif isinstance(value, list):
        yield value + [None]
        yield value + value
        if value: yield value[:-1]
        for i, v in enumerate(value[:4]):
            for m in list(mutations(v, rng))[:12]: yield value[:i] + [m] + value[i + 1:]
    else:
        for k in list(value)[:6]:
            yield {a: b for a, b in value.items() if a != k}
            yield {(k + "x" if a == k else a): b for a, b in value.items()}
            for m in list(mutations(value[k], rng))[:12]: yield {a: (m if a == k else b) for a, b in value.items()}
        yield dict(value, extra=1)

def run(program, file, *args, lines=None):
    r = subprocess.run([program, file, *args], input=lines, stdout=subprocess.PIPE, text=True)
    if r.returncode: raise RuntimeError(r.stdout.strip())
    return r.stdout.split("\n")[:-1] # not splitlines: U+2028 ends none

def check(program, name, schema, count):
    rng = random.Random(name)
    file = os.path.join(BUILD, "schema.json")
    with open(file, "w") as f: json.dump(schema, f)
    v = validator(schema)
    values, bad = [], []
    for line in run(program, file, str(count), "7"):
        text = json.loads(line)
        try: values.append(json.loads(text))
        except ValueError: bad.append("not JSON: " + text); continue
        if not v.is_valid(values[-1]): bad.append("not valid: " + text)
    if count > 50 and len({json.dumps(x) for x in values}) < 2 and name not in ("null", "items 0", "empty object", "const", "const string", "number 3"):
        bad.append("always the same: %r" % values[:1])
    wrong, right = set(), set()
    for value in values[:60]:
        for m in mutations(value, rng):
            if not v.is_valid(m): wrong.add(json.dumps(m, ensure_ascii=False))
    bounded = name.startswith("number ")
    for value in values if not bounded else []:
        try: json.dumps(value, ensure_ascii=False).encode()
        except UnicodeError: continue
        if any(c in json.dumps(value) for c in ("e+", "e-", "Infinity")): continue
        for form in ({}, {"separators": (",", ":")}, {"indent": 2})[:1 if name in ("enum", "const") else 3]: # as written
            right.add(json.dumps(value, ensure_ascii=False, **form))
    for texts, want in (wrong, "0 or 1"), (right, "2"):
        texts = sorted(texts)
        for text, got in zip(texts, run(program, file, "match", lines="".join(json.dumps(t) + "\n" for t in texts))):
            if (got == "2") != (want == "2"): bad.append("%s instead of %s: %s" % (got, want, text))
    print("%-8s %4d sentences %5d wrong %5d right  %s" % ("FAILED" if bad else "ok", len(values), len(wrong), len(right), name))
    for b in bad[:5]: print("    " + b[:300])
    return not bad

def main():
    os.makedirs(BUILD, exist_ok=True)
    program = os.path.join(BUILD, "schema")
    subprocess.check_call([os.environ.get("CC", "cc"), "-O2", "-o", program, os.path.join(HERE, "schema.c"), "-lm", "-lpthread"])
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    passed = failed = 0
    for name, schema in SCHEMAS.items():
        try: ok = check(program, name, schema, count)
        except RuntimeError as e: ok = False; print("FAILED   %s: %s" % (name, e))
        passed, failed = passed + ok, failed + (not ok)
    print("%d passed, %d failed" % (passed, failed))
    return failed != 0

if __name__ == "__main__":
    sys.exit(main())
