"""Manifests that nobody of ours would write, as a stranger may put them straight into Redis."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from shared.manifest import MAX_MANIFEST_BYTES

Change = Callable[[dict[str, Any]], Any]


def hostile_manifests(good: str) -> dict[str, bytes]:
    """By name; each is refused with one sentence.

    Args:
        good: A manifest that is not, with an axis of seeds.
    """

    def changed(change: Change) -> bytes:
        data = json.loads(good)
        change(data)
        return json.dumps(data).encode()

    def fixed(name: str, value: object) -> bytes:
        return changed(lambda data: data["fixed"].update({name: value}))

    def seeds(kind: str, value: object) -> bytes:
        def change(data: dict[str, Any]) -> None:
            data["axes"] = [axis for axis in data["axes"] if axis["fields"] != ["seed"]]
            data["axes"].append({"fields": ["seed"], kind: value})

        return changed(change)

    def output(key: str) -> bytes:
        return changed(lambda data: data["output"].update(key=key))

    table = {
        "size": 10_000,
        "rows": ["0" * 64] * 100_000,
        "groups": [{"count": 10**9, "values": []}],
        "tallies": None,
    }
    return {
        "empty": b"",
        "not JSON": b"{",
        "a number": b"1",
        "bytes that are no text": b'{"seedbed": 1, "name": "\xff\xfe"}',
        "100 MB of one text": fixed("prompt", "a" * 100_000_000),
        "a prompt of 10 MB": fixed("prompt", "a" * 10_000_000),
        "a name of 10 MB": changed(lambda data: data.update(name="a" * 10_000_000)),
        "a member's name of 10 MB": changed(lambda data: data.update({"a" * 10_000_000: 1})),
        "a million lists in one another": b"[" * 1_000_000 + b"]" * 1_000_000,
        "lists in one another at a field": fixed("prompt", [[[[[[[[]]]]]]]]),
        "five million empty lists": b"[" + b"[]," * 5_000_000 + b"[]]",
        "eight million numbers": b"[" + b"1," * 8_000_000 + b"1]",
        "eight million empty texts": b"[" + b'"",' * 5_000_000 + b'""]',
        "a number of a million digits": fixed("seed", 0).replace(
            b'"seed": 0', b'"seed": ' + b"9" * 10**6
        ),
        "2 * 10^9 seeds": seeds("range", [0, 2 * 10**9, 1]),
        "10^18 seeds": seeds("range", [0, 10**18, 1]),
        "seeds without end": seeds("range", [0, 10**400, 1]),
        "seeds without a step": seeds("range", [0, 10, 0]),
        "a million sizes": changed(
            lambda data: [
                data["fixed"].pop("height"),
                data["axes"].append(
                    {"fields": ["height"], "columns": [[8 * n for n in range(1, 5_000)]]}
                ),
            ]
        ),
        "10^9 rows in chunks that are nowhere": seeds("chunks", table),
        "NaN": fixed("guidance_scale", float("nan")),
        "Infinity": fixed("guidance_scale", float("inf")),
        "a number beyond floats": fixed("guidance_scale", 0).replace(
            b'"guidance_scale": 0', b'"guidance_scale": 1e999'
        ),
        "a member given twice": good.encode().replace(b'"name":', b'"name":"other","name":', 1),
        "a field given twice": good.encode().replace(b'"reuse":', b'"reuse":true,"reuse":', 1),
        "control characters in the name": changed(lambda data: data.update(name="a\x1b[2J\0")),
        "half of a surrogate pair": fixed("negative_prompt", "\ud800"),
        "a key that climbs": output("../../{digest}.png"),
        "a key that climbs by a field": output("{model}/../{digest}.png"),
        "a key from the root": output("/etc/{digest}.png"),
        "a key among the records": output("sweeps/{digest}.png"),
        "a key without a digest": output("images/{seed}.png"),
        "a key that reaches into Python": output("{model.__class__}/{digest}.png"),
        "a key of a hundred megabytes": output("{seed:099999999}/{digest}.png"),
        "a file for an input": fixed("init_image", "/etc/passwd"),
        "an input that climbs": fixed("init_image", "inputs/../../" + "0" * 64),
        "another pool's key for an input": fixed("init_image", "seedbed:{other}:manifest:x"),
        "a later version": changed(lambda data: data.update(seedbed=2)),
        "a version that is true": changed(lambda data: data.update(seedbed=True)),
        "a field of nobody": fixed("__class__", "x"),
        "another's manifest": changed(lambda data: data.update(name="somebody else's")),
        "spaces without end": b" " * (MAX_MANIFEST_BYTES + 1),
    }
