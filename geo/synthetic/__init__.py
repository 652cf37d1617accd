"""Scenes with known truth, written as real delivered products.

Nothing here is shared with the code that reads, calibrates, orthorectifies, registers or fuses them: a fault
there cannot hide behind the same fault here.
"""
