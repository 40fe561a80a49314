"""Operations that compute from their inputs alone, or change nothing but variables and random states.

They are in `harmless.txt`, by kind. Not there: what reads or writes files, runs Python, reaches the network or other
machines, prints (`PrintV2` may print to a file), and all custom operations. A name that is missing makes a SavedModel
unsafe, never the other way round.
"""

import re
from importlib import resources

_TEXT = resources.files(__package__).joinpath("harmless.txt").read_text("utf-8")
_KINDS = {kind: names.split() for kind, names in re.findall(r"^\[(\w+)\]\n((?:\w.*\n)+)", _TEXT, re.MULTILINE)}

HARMLESS = frozenset(name for names in _KINDS.values() for name in names)
"""Allowed in the main graph and in functions."""

COMPILED = HARMLESS - set(_KINDS["text"]) - {name for name in HARMLESS if name.startswith("Decode")}
"""Those that XLA may compile; it has no kernels for texts and files in memory."""

CREATING_VARIABLES = frozenset({"VarHandleOp", "Variable", "VariableV2"})
"""Allowed in the main graph. In a function they would reach other variables of the process by name."""

READING = frozenset({"RestoreV2"})
WRITING = frozenset({"SaveV2", "MergeV2Checkpoints", "ShardedFilename"})
"""What TensorFlow's saver adds, with `READING`; allowed where only the saver itself can run them."""
