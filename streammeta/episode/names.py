"""Where tasks can come from, by name. Without PyTorch, so that `streammeta --help` is quick."""

from typing import Literal, TypeAlias

__all__ = ["FamilyName"]

FamilyName: TypeAlias = Literal["sinusoids", "sinusoid-classes", "omniglot", "mnist", "table"]
