"""Fluorescence stacks: several channels of 8 or 16 bits, and their composite in colour."""

from dvidcore.datatypes.multichan16.datatype import MultiChannel

__all__ = ["MultiChannel"]
