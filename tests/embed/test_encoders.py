"""The table of encoders: names that are wrong are told from names that are right."""

import pytest

from tabular_trainers import SchemaError
from tabular_trainers.embed import load_encoder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stian", "unknown encoder 'stian'; known: stain, hipt, timm, hf. Did you mean 'stain'?"),
        ("timm", "encoder 'timm': expected timm:NAME (timm:NAME, any model of timm)."),
        ("hipt:4k", "encoder 'hipt:4k': nothing follows 'hipt'; expected hipt."),
    ],
)
def test_a_wrong_name_is_refused(name, message):
    with pytest.raises(SchemaError) as caught:
        load_encoder(name)
    assert str(caught.value) == message
