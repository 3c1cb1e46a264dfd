"""How values are declared: as dataclasses that nothing changes after they are made."""

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[_T]) -> type[_T]:
    """Make a class a dataclass with slots, equality and a hash, whose fields mypy protects.

    A `frozen` dataclass protects its fields at run time as well, and pays for that whenever one is
    made: each field costs a call of `object.__setattr__`. A check makes a dozen values.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def secret_value(cls: type[_T]) -> type[_T]:
    """Make a class a `value` whose fields show in no repr (S11)."""
    return dataclass(slots=True, unsafe_hash=True, repr=False)(cls)
