"""Are two expressions the same function? Exact arithmetic mod primes, then many digits.

`field` is arithmetic in a tower of prime fields in which exp, sin and cos keep their algebra,
`values` the numbers that carry it next to their real value, `maps` the scalar functions on such
numbers, `evaluate` the walk over a graph; `symgrad.equivalent` is the public face.
"""
