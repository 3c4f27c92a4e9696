"""The TypedDicts of rows have the columns of the schema, with the same types and nulls."""

from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

import pyarrow as pa
import pytest

from gigavideo_data.dataset.schema import EVAL_PROMPTS, LATENTS, REJECTS, ROWS, Contract
from gigavideo_data.rows import EvalPrompt, LatentsRow, Reject, VideoRow

PLAIN = {"string": str, "int32": int, "int64": int, "float": float, "bool": bool, "binary": bytes}


@pytest.mark.parametrize(
    ("row", "contract"), [(VideoRow, ROWS), (EvalPrompt, EVAL_PROMPTS), (Reject, REJECTS), (LatentsRow, LATENTS)]
)
def test_typed_rows_have_the_fields_types_and_nulls_of_the_schema(row: type, contract: Contract) -> None:
    _check_fields(row, contract.schema, contract.nullable, "")


def _check_fields(row: type, fields: pa.Schema | pa.StructType, nullable: frozenset[str], parent: str) -> None:
    hints = get_type_hints(row)
    assert set(hints) == {field.name for field in fields}, row
    for field in fields:
        name = f"{parent}{field.name}"
        members = set(get_args(hints[field.name])) if isinstance(hints[field.name], UnionType) else {hints[field.name]}
        assert (NoneType in members) == (name in nullable), name
        _check_type(members - {NoneType}, field.type, nullable, name)


def _check_type(members: set[Any], kind: pa.DataType, nullable: frozenset[str], name: str) -> None:
    if pa.types.is_struct(kind) or pa.types.is_list(kind):
        (member,) = members
        if pa.types.is_list(kind):
            assert get_origin(member) is list, name
            _check_type(set(get_args(member)), kind.value_type, nullable, name)
        else:
            assert is_typeddict(member), name
            _check_fields(member, kind, nullable, f"{name}.")
    else:
        assert PLAIN[str(kind)] in members, name
