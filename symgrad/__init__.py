"""symgrad: neural networks as mathematics, trained by one native step."""

from symgrad import ops as _ops  # noqa: F401 - gives Python's operators their meaning
