"""Derivatives of expression graphs: local rules by node kind, and the sweeps that join them.

`algebra` builds the small expressions the rules need, `adjoints` and `tangents` are the tables of
rules, `reverse` and `forward` the two sweeps; `symgrad.grad` is the public face.
"""
