"""Names of Python's operators: their slots, what stands for them with the operands exchanged, and C functions."""

from __future__ import annotations

# slot -> what `number <op> tensor` calls: an operator with the operands exchanged, or "fill" for a full tensor on the left
REFLECTED = {
    "add": "add",
    "mul": "mul",
    "sub": "rsub",
    "truediv": "rdiv",
    "pow": "rpow",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "floordiv": "fill",
    "remainder": "fill",
    "matmul": None,
}
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
DUNDERS = {"remainder": "mod"}  # slot -> Python's name between the underscores, where it is another
UNARY = ("neg", "abs", "invert")
SLOTS = {
    "add": "nb_add",
    "sub": "nb_subtract",
    "mul": "nb_multiply",
    "truediv": "nb_true_divide",
    "floordiv": "nb_floor_divide",
    "remainder": "nb_remainder",
    "pow": "nb_power",
    "matmul": "nb_matrix_multiply",
    "and": "nb_and",
    "or": "nb_or",
    "xor": "nb_xor",
    "neg": "nb_negative",
    "abs": "nb_absolute",
    "invert": "nb_invert",
}


def prototype(place: str, name: str, suffix: str = "") -> str:
    """The declaration of the C function behind a Python name."""
    return f"PyObject* {place}_{name}{suffix}(PyObject*, PyObject* const*, Py_ssize_t, PyObject*);"
