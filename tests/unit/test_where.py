"""Conditions: what compares is rebuilt with parameters, all else is refused in a sentence."""

from __future__ import annotations

import pytest

from producer.where import MAX_CHARACTERS, parse_where
from shared.errors import InvalidInput
from shared.fields import FIELDS
from shared.sweep_index import COLUMNS, LEADING, TRAILING


@pytest.mark.parametrize(
    ("text", "sql", "parameters"),
    [
        ("seed = 1", '("seed" = ?)', (1,)),
        ("SEED <> -1", '("seed" <> ?)', (-1,)),
        ("7.5 <= guidance_scale", '(? <= "guidance_scale")', (7.5,)),
        ("seed in (1, 2)", '("seed" IN (?, ?))', (1, 2)),
        ("seed between 1 and 3", '("seed" BETWEEN ? AND ?)', (1, 3)),
        ("prompt like '%star%'", '("prompt" LIKE ?)', ("%star%",)),
        ("prompt not ilike 'a!%%' escape '!'", '(NOT ("prompt" ILIKE ? ESCAPE ?))', ("a!%%", "!")),
        ("negative_prompt is null", '("negative_prompt" IS NULL)', ()),
        ("not (flagged or reused)", '(NOT ("flagged" OR "reused"))', ()),
        ("seed = 9223372036854775807", '("seed" = ?)', (2**63 - 1,)),
        ("seed = 1 -- they were good", '("seed" = ?)', (1,)),
        ("prompt = 'it''s; drop table jobs --'", '("prompt" = ?)', ("it's; drop table jobs --",)),
        ("(((seed = 1)))", '("seed" = ?)', (1,)),
    ],
)
def test_a_condition_is_rebuilt_with_its_constants_as_parameters(
    text: str, sql: str, parameters: tuple[object, ...]
) -> None:
    condition = parse_where(text, COLUMNS)
    assert (condition.sql, condition.parameters) == (sql, parameters)


def test_text_in_double_quotes_is_a_text_where_it_is_no_column() -> None:
    condition = parse_where('"prompt" like "狗 %star%" and prompt = "seedy"', COLUMNS)
    assert condition.sql == '(("prompt" LIKE ?) AND ("prompt" = ?))'
    assert condition.parameters == ("狗 %star%", "seedy")
    assert condition.columns == {"prompt"}


def test_a_long_list_of_alternatives_is_no_deep_nest() -> None:
    text = " or ".join(f"seed = {seed}" for seed in range(1000))
    assert len(parse_where(text, COLUMNS).parameters) == 1000


@pytest.mark.parametrize(
    "text",
    [
        "seed = 1; drop table jobs",
        "seed = 1; select 1",
        "seed in (select 1)",
        "seed = (select max(seed) from jobs)",
        "exists (select 1)",
        "upper(prompt) = 'A'",
        "read_text('/etc/passwd') = 'a'",
        "getenv('HOME') = prompt",
        "seed::text = '1'",
        "cast(seed as text) = '1'",
        "seed % 2 = 0",
        "seed + 1 = 2",
        "seed in [1, 2]",
        "seed = any([1])",
        "case when seed = 1 then true else false end",
        "prompt ~ 'a'",
        "prompt similar to 'a'",
        "prompt collate nocase = 'a'",
        "columns(*) = 1",
        "date '2020-01-01' = prompt",
        "x'00' = prompt",
        "seed = $1",
        "seed = ?",
        "seed = 1 order by 1",
        "seed = 1 limit 1",
        "seed = 1 group by all",
        "seed = 1 having true",
        "seed = 1 union select 1",
        "seed = 1 qualify true",
        "seed = 1 using sample 1",
        "seed = 1) or (1 = 1",
        "jobs.seed = 1",
        "rowid = 1",
        "1 = 1",
        "'a' = 'b'",
        "prompt",
        "seed",
        "not " * 300 + "seed = 1",
        "(",
        "seed =",
        "",
        "  ",
        "\0",
        "seed = 1 \ud800",
        "seed = " + "1" * MAX_CHARACTERS,
    ],
)
def test_whatever_does_more_than_compare_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_where(text, COLUMNS)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("--where ")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("guidence_scale = 7", "did you mean 'guidance_scale'?"),
        ('"guidance scale" = 7', "did you mean 'guidance_scale'?"),
        ("steps = 7", "did you mean 'num_inference_steps'?"),
        ("prompt = 5", "write the text in quotes"),
        ("seed = '1'", "write a number without quotes"),
        ("seed like '1%'", "write =, < or >"),
        ("flagged = 1", "write true or false"),
        ("prompt = null", "write 'is null'"),
        ("seed in (1, 'a')", "write a number without quotes"),
    ],
)
def test_a_slip_is_refused_with_its_remedy(text: str, remedy: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_where(text, COLUMNS)
    assert remedy in str(refused.value)


def test_columns_are_the_fields_of_a_job_and_what_became_of_it() -> None:
    assert list(COLUMNS) == [*LEADING, *FIELDS, *TRAILING]
    assert not set(FIELDS) & {*LEADING, *TRAILING}
