"""Golden bytes: what two AMQP 0-9-1 encoders that are not ours make of the same values.

    pip install pamqp==4.0.1 pika==1.4.4 && python3 make.py

(Python 3.11 or later) writes methods.txt, properties.txt, fields.txt and frames.txt next to this
file and prints what an encoder would not say and where the two part. README.md describes the lines.
"""

import json
import re
import struct
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pamqp.body
import pamqp.commands
import pamqp.encode
import pamqp.frame
import pamqp.header
import pamqp.heartbeat
import pika.compat
import pika.data
import pika.frame
import pika.spec

# A table value is a tree, spelled as in fields.txt: {"tag": "I", "value": 5}.
# The table of a method or of a message is a sorted list of (key, tree).


def kebab(name):
    """Exchange.DeclareOk -> exchange.declare-ok"""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def utc(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc)


def decimal(tree):
    (raw,) = struct.unpack(">i", struct.pack(">I", tree["raw"]))
    return Decimal(raw).scaleb(-tree["scale"])


def floating(tree):
    bits = bytes.fromhex(tree["bits"])
    return struct.unpack(">f" if len(bits) == 4 else ">d", bits)[0]


def octets(tag, data):
    return {"tag": tag, "hex": data.hex()}


def number(tag, value):
    return {"tag": tag, "value": value}


def table(*entries):
    return {"tag": "F", "entries": list(entries)}


def array(*items):
    return {"tag": "A", "items": list(items)}


# The two encoders


class Refused(Exception):
    """The encoder cannot say this."""


class Encoder:
    def arguments(self, fields, renamed):
        """Fields under the encoder's own names, tables as its own Python values."""
        return {
            renamed.get(name, name): self.python(table(*value)) if isinstance(value, list) else value
            for name, value in fields.items()
        }


class Pika(Encoder):
    name = "pika"
    methods = {kebab(method.NAME): method for method in pika.spec.methods.values()}
    renamed = {"no_wait": "nowait", "global": "global_qos"}

    def python(self, tree):
        """The Python value that stands for the tree."""
        match tree["tag"]:
            case "t" | "I":
                return tree["value"]
            case "l":
                return pika.compat.long(tree["value"])
            case "S":
                return bytes.fromhex(tree["hex"]).decode()
            case "x":
                return bytes.fromhex(tree["hex"])
            case "T":
                return utc(tree["value"])
            case "D" if tree["scale"] and decimal(tree).as_tuple().digits[-1] == 0:
                raise Refused("takes trailing zeros off a decimal")
            case "D":
                return decimal(tree)
            case "F":
                return {key: self.python(value) for key, value in tree["entries"]}
            case "A":
                return [self.python(item) for item in tree["items"]]
            case "V":
                return None
            case tag:
                raise Refused(f"never writes tag {tag}")

    def table(self, entries):
        pieces = []
        pika.data.encode_table(pieces, self.python(table(*entries)))
        return b"".join(pieces)[4:]

    def field(self, tree):
        return self.table([("k", tree)])

    def method(self, name, channel, fields):
        method = self.methods[name](**self.arguments(fields, self.renamed))
        return pika.frame.Method(channel, method).marshal()

    def header(self, channel, body_size, properties):
        properties = pika.spec.BasicProperties(**self.arguments(properties, {}))
        return pika.frame.Header(channel, body_size, properties).marshal()

    def body(self, channel, payload):
        return pika.frame.Body(channel, payload).marshal()

    def heartbeat(self):
        return pika.frame.Heartbeat().marshal()

    def protocol_header(self):
        return pika.frame.ProtocolHeader().marshal()


class Pamqp(Encoder):
    name = "pamqp"
    methods = {kebab(method.name): method for method in pamqp.commands.INDEX_MAPPING.values()}
    renamed = {"no_wait": "nowait", "global": "global_", "type": "exchange_type"}

    # Types the table encoder writes never (B, d) or only where no narrower one will do; their tag is put in here.
    direct = {
        "B": pamqp.encode.octet,
        "s": pamqp.encode.short_int,
        "u": pamqp.encode.short_uint,
        "I": pamqp.encode.long_int,
        "i": pamqp.encode.long_uint,
        "l": pamqp.encode.long_long_int,
        "d": pamqp.encode.double,
    }

    def python(self, tree):
        match tree["tag"]:
            case "t" | "b" | "B" | "s" | "u" | "I" | "i" | "l":
                return tree["value"]
            case "S":
                return bytes.fromhex(tree["hex"]).decode()
            case "x":
                return bytearray.fromhex(tree["hex"])
            case "T":
                return utc(tree["value"])
            case "f" | "d":
                return floating(tree)
            case "D":
                return decimal(tree)
            case "F" if any(len(key.encode()) > 128 for key, _ in tree["entries"]):
                raise Refused("cuts a table key after 128 octets")
            case "F":
                return {key: self.python(value) for key, value in tree["entries"]}
            case "A":
                return [self.python(item) for item in tree["items"]]
            case "V":
                return None

    def table(self, entries):
        return pamqp.encode.field_table(self.python(table(*entries)))[4:]

    def field(self, tree):
        tag, value = tree["tag"], self.python(tree)
        if tag in self.direct:
            return pamqp.encode.short_string("k") + tag.encode() + self.direct[tag](value)
        return self.table([("k", tree)])

    def method(self, name, channel, fields):
        if name not in self.methods:
            raise Refused("does not know the method")
        method = self.methods[name](**self.arguments(fields, self.renamed))
        return pamqp.frame.marshal(method, channel)

    def header(self, channel, body_size, properties):
        if "" in properties.values():
            raise Refused("leaves out a property with an empty string")
        arguments = self.arguments(properties, {"type": "message_type"})
        if "timestamp" in arguments:
            arguments["timestamp"] = utc(arguments["timestamp"])
        header = pamqp.header.ContentHeader(0, body_size, pamqp.commands.Basic.Properties(**arguments))
        return pamqp.frame.marshal(header, channel)

    def body(self, channel, payload):
        return pamqp.frame.marshal(pamqp.body.ContentBody(payload), channel)

    def heartbeat(self):
        return pamqp.frame.marshal(pamqp.heartbeat.Heartbeat(), 0)

    def protocol_header(self):
        return pamqp.frame.marshal(pamqp.header.ProtocolHeader(), 0)


PIKA, PAMQP = Pika(), Pamqp()


# Only values for which both encoders choose the same tags.
TABLE = [
    ("array", array(octets("S", b"one"), number("I", 100_000), {"tag": "V"})),
    ("bool", number("t", True)),
    ("int", number("I", -100_000)),
    ("long", number("l", -(2**40))),
    ("string", octets("S", "größe".encode())),
    ("table", table(("when", number("T", 1_700_000_000)))),
    ("void", {"tag": "V"}),
]


# Methods

RESERVED = {"ticket", "capabilities", "insist", "known_hosts", "out_of_band", "channel_id", "cluster_id"}
WIDTH = {"octet": 1, "short": 2, "long": 4, "longlong": 8}


def fields_of(method):
    """Names (the specification's) and types of a method's fields, without the reserved ones; pamqp tells them."""
    ours = {theirs: ours for ours, theirs in PAMQP.renamed.items()}
    return {ours.get(name, name): method.amqp_type(name) for name in method.attributes() if name not in RESERVED}


METHODS = {name: fields_of(method) for name, method in PAMQP.methods.items()} | {
    "access.request": {"realm": "shortstr"} | dict.fromkeys(["exclusive", "passive", "active", "write", "read"], "bit"),
    "access.request-ok": {"ticket": "short"},
}


def least(kind):
    return {"bit": False, "shortstr": "", "longstr": "", "table": []}.get(kind, 0)


def distinct(name, kind, position):
    """A value no other field of the method has, and no two octets of an integer alike."""
    if kind in WIDTH:
        return int.from_bytes(range(16 * position + 1, 16 * position + 1 + WIDTH[kind]))
    return {"bit": True, "table": TABLE}.get(kind, f"the-{name}".replace("_", "-"))


def method_cases(name, fields):
    """(case, channel, fields): nothing set, all set, and then each field alone at its edges.

    Only the last short string is tried at full length: 255 octets are long to read.
    """
    connection = name.startswith("connection.")
    default = {field: least(kind) for field, kind in fields.items()}
    full = {field: distinct(field, kind, i) for i, (field, kind) in enumerate(fields.items())}
    yield "default", 0 if connection else 1, default
    if fields or not connection:
        yield "full", 0 if connection else 0x0102, full
    last_string = [field for field, kind in fields.items() if kind == "shortstr"][-1:]
    for field, kind in fields.items():
        edges = {
            "bit": {"bit": True},
            "shortstr": {"utf8": "ü€🐇"} | ({"longest": "s" * 255} if field in last_string else {}),
            "longstr": {"utf8": "ü€🐇", "long": "l" * 300, "octets": b"\0\xff\xce"},
            "table": {},
        }
        for case, value in edges.get(kind, {"max": 256 ** WIDTH.get(kind, 0) - 1}).items():
            yield f"{case}:{field}", 0 if connection else 1, default | {field: value}


# Properties

STRINGS = [
    "content_type", "content_encoding", "correlation_id", "reply_to", "expiration",
    "message_id", "type", "user_id", "app_id", "cluster_id",
]  # fmt: skip
PROPERTIES = {name: f"the-{name}".replace("_", "-") for name in STRINGS} | {
    "headers": TABLE,
    "delivery_mode": 2,
    "priority": 9,
    "timestamp": 1_700_000_000,
}


def property_cases():
    """(case, body size, properties)"""
    for case, size in {"0": 0, "1": 1, "2^32": 2**32, "2^63": 2**63}.items():
        yield f"none:{case}", size, {}
    yield "all", 0x0102030405060708, PROPERTIES
    yield "all-but-cluster_id", 0x0102030405060708, {k: v for k, v in PROPERTIES.items() if k != "cluster_id"}
    for name, value in PROPERTIES.items():
        yield f"alone:{name}", 1, {name: value}
    for name in STRINGS:
        yield f"empty:{name}", 1, {name: ""}
        yield f"longest:{name}", 1, {name: "p" * 255}
    yield "empty:headers", 1, {"headers": []}
    for name, most in {"delivery_mode": 255, "priority": 255, "timestamp": 2**64 - 1}.items():
        yield f"zero:{name}", 1, {name: 0}
        yield f"max:{name}", 1, {name: most}
    yield "one:delivery_mode", 1, {"delivery_mode": 1}


# Field values

# Bits and sign
INTEGERS = {
    "b": (8, True), "B": (8, False), "s": (16, True), "u": (16, False),
    "I": (32, True), "i": (32, False), "l": (64, True),
}  # fmt: skip
FLOATS = {
    "f": {
        "zero": "00000000", "minus-zero": "80000000", "one": "3f800000", "minus-pi": "c0490fdb", "least": "00000001",
        "max": "7f7fffff", "min": "ff7fffff", "infinity": "7f800000",
    },
    "d": {
        "zero": "0000000000000000", "minus-zero": "8000000000000000", "one": "3ff0000000000000",
        "minus-pi": "c00921fb54442d18", "least": "0000000000000001", "max": "7fefffffffffffff",
        "min": "ffefffffffffffff", "infinity": "7ff0000000000000",
    },
}  # fmt: skip
# Scale and raw
DECIMALS = {
    "zero": (0, 0), "pi": (2, 314), "hundred": (0, 100), "trailing-zero": (2, 310), "minus-one": (0, 2**32 - 1),
    "max": (0, 2**31 - 1), "min": (0, 2**31), "scale-255": (255, 1), "scale-255-max": (255, 2**31 - 1),
}  # fmt: skip


def field_cases():
    """(case, tree)"""
    yield "false", number("t", False)
    yield "true", number("t", True)
    for tag, (bits, signed) in INTEGERS.items():
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        edges = {"min": low, "minus-one": -1, "zero": 0, "one": 1, "max": high}
        for case, value in edges.items():
            if value >= low and (case, value) != ("min", 0):
                yield case, number(tag, value)
    for tag, values in FLOATS.items():
        for case, bits in values.items():
            yield case, {"tag": tag, "bits": bits}
    for case, (scale, raw) in DECIMALS.items():
        yield case, {"tag": "D", "scale": scale, "raw": raw}
    times = {"zero": 0, "one": 1, "2^32": 2**32, "year-9999": 253402300799, "max": 2**64 - 1}
    for case, value in times.items():
        yield case, number("T", value)
    for tag in "Sx":
        yield "empty", octets(tag, b"")
        yield "ascii", octets(tag, b"plain")
        yield "utf8", octets(tag, "ü€🐇".encode())
        yield "zero-octet", octets(tag, b"a\0b")
        yield "long", octets(tag, b"v" * 300)
    yield "every-octet", octets("x", bytes(range(256)))
    yield "void", {"tag": "V"}

    five, text = number("I", 500_000), octets("S", b"deep")
    yield "empty", table()
    yield "empty-key", table(("", five))
    yield "utf8-key", table(("größe", five), ("🐇", text))
    yield "longest-key-pamqp", table(("n" * 128, five))
    yield "longest-key", table(("n" * 255, five))
    yield "three-deep", table(("a", table(("b", table(("c", five), ("d", text))), ("e", table()))), ("f", array()))
    yield "several", table(*TABLE)
    yield "empty", array()
    yield "void", array({"tag": "V"})
    yield "three-deep", array(five, array(text, array(five, text), array()), table(), number("t", True))
    yield "table-in-array", array(table(("a", array(table(("b", five))))))
    yield "several", array(*(tree for _, tree in TABLE))


# Lines

refused, parted = [], []


def both(what, say, line):
    """The lines of both encoders for one case: `say` makes the bytes, `line` the columns between name and bytes."""
    said = {}
    for encoder in PAMQP, PIKA:
        try:
            data = say(encoder)
            said.setdefault(line(encoder), {})[encoder.name] = data
        except (Refused, ValueError, TypeError, AssertionError, struct.error, OverflowError) as reason:
            refused.append(f"{encoder.name}\t{what}\t{reason}")
    for text, data in said.items():
        if len(set(data.values())) > 1:
            parted.append(what)
        for name, octets in data.items():
            yield f"{name}\t{text}\t{octets.hex()}"


def compact(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def spelled(encoder, fields):
    """Fields as the files show them."""

    def value(v):
        match v:
            case str():
                return {"hex": v.encode().hex()}
            case bytes():
                return {"hex": v.hex()}
            case list():
                return {"table_hex": encoder.table(v).hex()}
        return v

    return compact({name: value(v) for name, v in fields.items()})


def methods():
    for name, kinds in METHODS.items():
        for case, channel, fields in method_cases(name, kinds):
            yield from both(
                f"{name} {case}",
                lambda encoder: encoder.method(name, channel, fields),
                lambda encoder: f"{name}\t{case}\t{channel}\t{spelled(encoder, fields)}",
            )


def properties():
    for case, size, fields in property_cases():
        yield from both(
            f"properties {case}",
            lambda encoder: encoder.header(1, size, fields),
            lambda encoder: f"basic\t{case}\t1\t{spelled(encoder, {'body_size': size} | fields)}",
        )


def fields():
    for case, tree in field_cases():
        yield from both(
            f"field {tree['tag']} {case}",
            lambda encoder: encoder.field(tree),
            lambda encoder: f"{tree['tag']}\t{case}\t{compact(tree)}",
        )


def frames():
    bodies = {"empty": b"", "one": b"\xce", "300": bytes(i % 256 for i in range(300))}
    for case, payload in bodies.items():
        yield from both(
            f"body {case}",
            lambda encoder: encoder.body(0xFFFF, payload),
            lambda encoder: f"body\t{case}\t{0xFFFF}\t{payload.hex()}",
        )
    yield from both("heartbeat", lambda encoder: encoder.heartbeat(), lambda _: "heartbeat\tonly\t0\t")
    yield from both(
        "protocol-header",
        lambda encoder: encoder.protocol_header(),
        lambda _: "protocol-header\tonly\t0\t",
    )


def main():
    for name, lines in {"methods": methods, "properties": properties, "fields": fields, "frames": frames}.items():
        text = "".join(f"{line}\n" for line in sorted(lines()))
        Path(__file__).with_name(f"{name}.txt").write_text(text, encoding="utf-8", newline="\n")
    for line in refused:
        print("refused", line, sep="\t")
    for what in parted:
        print("parted", what, sep="\t")


if __name__ == "__main__":
    main()
