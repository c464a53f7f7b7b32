"""What only embed needs is imported late, and named with its remedy where it is missing."""

import sys

import PIL.Image
import pytest

from tabular_trainers import SchemaError
from tabular_trainers.embed.requirements import need


def test_the_very_module_is_given():
    assert need("PIL.Image") is PIL.Image


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(SchemaError) as caught:
        need("openslide")
    message = str(caught.value)
    assert message.startswith("openslide cannot be imported (")
    assert message.endswith('Install it with: pip install "tabular-trainers[slides]"')
