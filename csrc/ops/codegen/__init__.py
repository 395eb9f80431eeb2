"""Turns the operator table into C++, Python stubs and documentation."""
