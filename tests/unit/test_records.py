"""Seedbed's own records lie under the sweep's folder, a JSON line an image."""

from __future__ import annotations

import json
from dataclasses import asdict

from shared.object_keys import RESERVED
from shared.records import Receipt, manifest_key, pin_key, receipt_lines, receipts_key


def make_receipt(**fields: object) -> Receipt:
    defaults = {
        "index": 3,
        "digest": "ab",
        "key": "images/ab.png",
        "bytes": 9,
        "at": "",
        "worker": "w",
    }
    return Receipt(**{**defaults, **fields})  # type: ignore[arg-type]


def test_every_record_lies_in_the_sweeps_own_reserved_folder() -> None:
    keys = [manifest_key("s-1"), pin_key("s-1", "m"), receipts_key("s-1", "t")]
    assert len(set(keys)) == 3
    for key in keys:
        assert key.startswith("sweeps/s-1/")
        assert key.split("/")[0] in RESERVED


def test_a_receipt_is_one_line_whatever_its_notes_hold() -> None:
    receipts = [make_receipt(notes=("a\nb\u2028c\x85d",)), make_receipt(index=4)]
    lines = receipt_lines(receipts).split(b"\n")
    assert lines[-1] == b""
    assert [json.loads(line)["index"] for line in lines[:-1]] == [3, 4]
    assert json.loads(lines[0])["notes"] == ["a\nb\u2028c\x85d"]


def test_a_receipt_comes_back_from_its_line() -> None:
    receipt = make_receipt(mates=("cd",), seconds={"denoise": 1.5}, software={"torch": "2"})
    data = json.loads(receipt_lines([receipt]))
    assert Receipt(**data | {"mates": tuple(data["mates"]), "notes": ()}) == receipt
    assert set(data) == set(asdict(receipt))


def test_no_receipts_are_no_bytes() -> None:
    assert receipt_lines([]) == b""
