"""A short round of faults on a real pool; ``make chaos`` plays each of them, and for longer."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from random import Random

import pytest
from PIL import Image

from shared.image_metadata import encode_png
from tests.faults.auditor import Audit
from tests.faults.catalogue import CATALOGUE
from tests.faults.marks import STAGES
from tests.faults.pool import faulty_pool
from tests.faults.rounds import EXACT_SEEDS, Player
from tests.faults.s3_proxy import Answer, Call
from tests.faults.worker import stages

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(600)]

SEED = 6
SEEDS = 32
"""Of each prompt and scale: 128 images."""
FAULTS = (
    "worker-killed",
    "redis-killed",
    "s3-errors",
    "messages-deleted",
    "spare-doorbells",
    "redis-credentials-withdrawn",
    "redis-out-of-connections",
)


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    with faulty_pool(tmp_path_factory.mktemp("faults")) as pool:
        pool.staff()
        yield Player(pool, Random(SEED), seeds=SEEDS)


def test_every_stage_at_which_the_suite_kills_a_worker_is_a_function_of_it() -> None:
    found = stages()
    assert tuple(found) == STAGES
    for owner, name, _ in found.values():
        assert callable(getattr(owner, name))


def test_nothing_is_lost_twice_or_wrong_after_faults_of_every_kind(player: Player) -> None:
    assert player.without_faults().problems == []

    played = player.in_turn([CATALOGUE[name] for name in FAULTS], marks=("raises", "non-finite"))

    assert played.problems == []
    assert played.audit.images == 4 * SEEDS + 1, "all but the two that can't be rendered"
    assert played.faults.total() == len(FAULTS) + 2


def test_a_storage_that_answers_every_head_with_200_gets_its_images_all_the_same(
    player: Player,
) -> None:
    if not player.pool.auditor.reference:
        player.without_faults()

    def rule(call: Call) -> Answer | None:
        lie = call.method == "HEAD" and "/images/" in call.path
        return Answer(status=200, length=4711) if lie else None

    with player.pool.s3.answering(rule):
        played = player.misrendering("non-finite")

    assert played.problems == []
    assert played.audit.images == 32


def test_a_reproducible_sweep_comes_out_equal_to_the_bit_whatever_happens(player: Player) -> None:
    if not player.pool.auditor.reference:
        player.without_faults()

    played = player.to_the_bit()

    assert played.problems == []
    assert played.audit.exact == 4 * EXACT_SEEDS
    exact = next(sweep for sweep in player.pool.sweeps if "exact" in sweep.id)
    key = str(player.pool.receipts(exact)[0]["key"])
    with Image.open(io.BytesIO(player.pool.auditor.read(key))) as picture:
        record = json.loads(picture.text["seedbed"])  # type: ignore[attr-defined]
        changed = picture.convert("RGB")
    red, green, blue = changed.getpixel((5, 5))  # type: ignore[misc]
    changed.putpixel((5, 5), (red ^ 1, green, blue))
    body = encode_png(changed, job=record["job"], digest=record["digest"], pin=record["pin"])
    player.pool.storage.put(key, body, content_type="image/png")
    sweeps: dict[str, dict[int, str]] = {sweep.id: {} for sweep in player.pool.sweeps}
    (found,) = player.pool.auditor.audit(sweeps).corrupt
    assert found == f"{key}: not equal to the bit, 1 levels away"


def test_the_auditor_sees_whatever_is_wrong(player: Player) -> None:
    pool, auditor = player.pool, player.pool.auditor
    if not auditor.reference:
        player.without_faults()
    sweeps = {sweep.id: {0: ".*"} if "plain" not in sweep.id else {} for sweep in pool.sweeps}
    plain = next(sweep.id for sweep in pool.sweeps if "plain" in sweep.id)

    def audit() -> Audit:
        return auditor.audit(sweeps)

    before = audit()
    first, second, third, fourth, *_ = pool.auditor.keys("images/")
    good = {key: auditor.read(key) for key in (first, second, third, fourth)}
    storage = pool.storage
    storage.delete(first)
    storage.put(second, good[third], content_type="image/png")
    storage.put(third, good[third][:-100], content_type="image/png")
    storage.put("images/aa/a-stranger.png", good[fourth], content_type="image/png")
    storage.put("sweeps/nobody-knows/manifest.json", b"{}", content_type="application/json")
    with pool.redis.client() as client:
        base = f"seedbed:{{{pool.settings.pool}}}"
        client.setbit(f"{base}:bits:{plain}:0", 3, 0)
        client.hset(f"{base}:leased:{plain}", "5", "somebody")
        client.sadd(f"{base}:dead:{plain}", 7)

    after = audit()

    assert first in after.missing
    assert {key.partition(":")[0] for key in after.corrupt} >= {second, third}
    assert after.strangers[-2:] == ["images/aa/a-stranger.png", "sweeps/nobody-knows/manifest.json"]
    assert 3 in after.unsettled
    places = {text.partition(": ")[2] for text in after.twice}
    assert places >= {"nowhere", "done and leased", "done and dead"}
    assert len(after.blamed) == len(before.blamed) + 1
