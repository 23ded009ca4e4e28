# ruff: noqa: E501 - a table: one identity per line
"""A hundred identities of matrix calculus, each proved by `sg.equivalent`.

The tables are those of the Matrix Cookbook (Petersen and Pedersen, 2012), sections 2.4 to 2.8, as
far as they need no determinant or inverse, and what lectures on neural networks add: elementwise
functions, softmax, losses, whole Jacobians and Hessians. Derivatives by a matrix have its shape.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import symgrad as sg
from symgrad.node import Expr

SIZE = 4
A, B, C, D, X = (sg.input(name, (SIZE, SIZE)) for name in "ABCDX")
M = sg.input("M", (3, SIZE))
a, b, c, d, s, x = (sg.input(name, (SIZE,)) for name in "abcdsx")
t, alpha = sg.input("t", ()), sg.input("alpha", ())
I = sg.constant([[1.0 * (i == j) for j in range(SIZE)] for i in range(SIZE)])  # noqa: E741
ones = sg.constant([1.0] * SIZE)
full = sg.outer(ones, ones)
S = A + A.T  # a symmetric matrix
tr, outer, dot, total, p = sg.trace, sg.outer, sg.dot, sg.sum, sg.nn.softmax(x)
k = 2
e_k = sg.constant([1.0 * (i == k) for i in range(SIZE)])


def norm2(e: Expr) -> Expr:
    return total(e * e)


def diag(v: Expr) -> Expr:
    return v[:, None] * I


sigma = sg.sigmoid(x)
residual = X @ b + c
mean = total(x) / SIZE

# fmt: off
GRADIENTS: dict[str, tuple[Expr, Expr, Expr]] = {
    # traces, first order (cookbook 99-104)
    "tr X": (tr(X), X, I),
    "tr XA": (tr(X @ A), X, A.T),
    "tr AXB": (tr(A @ X @ B), X, A.T @ B.T),
    "tr AX'B": (tr(A @ X.T @ B), X, B @ A),
    "tr X'A": (tr(X.T @ A), X, A),
    "tr AX'": (tr(A @ X.T), X, A),
    "tr(A)tr(X)": (tr(A) * tr(X), X, tr(A) * I),
    "tr A(X + X')": (tr(A @ (X + X.T)), X, A.T + A),
    "tr MXM' of other shapes": (tr(M @ X @ M.T), X, M.T @ M),
    # second order (105-118)
    "tr XX": (tr(X @ X), X, 2 * X.T),
    "tr XXB": (tr(X @ X @ B), X, (X @ B + B @ X).T),
    "tr X'BX": (tr(X.T @ B @ X), X, B @ X + B.T @ X),
    "tr BXX'": (tr(B @ X @ X.T), X, B @ X + B.T @ X),
    "tr XX'B": (tr(X @ X.T @ B), X, B @ X + B.T @ X),
    "tr XBX'": (tr(X @ B @ X.T), X, X @ B.T + X @ B),
    "tr BX'X": (tr(B @ X.T @ X), X, X @ B.T + X @ B),
    "tr X'XB": (tr(X.T @ X @ B), X, X @ B.T + X @ B),
    "tr AXBX": (tr(A @ X @ B @ X), X, A.T @ X.T @ B.T + B.T @ X.T @ A.T),
    "tr X'X": (tr(X.T @ X), X, 2 * X),
    "tr B'X'CXB": (tr(B.T @ X.T @ C @ X @ B), X, C.T @ X @ B @ B.T + C @ X @ B @ B.T),
    "tr X'BXC": (tr(X.T @ B @ X @ C), X, B @ X @ C + B.T @ X @ C.T),
    "tr AXBX'C": (tr(A @ X @ B @ X.T @ C), X, A.T @ C.T @ X @ B.T + C @ A @ X @ B),
    "tr (AXB + C)(AXB + C)'": (tr((A @ X @ B + C) @ (A @ X @ B + C).T), X, 2 * A.T @ (A @ X @ B + C) @ B.T),
    "tr X kron X": (tr(sg.kron(X, X)), X, 2 * tr(X) * I),
    # higher order (121, 122)
    "tr XXX": (tr(X @ X @ X), X, 3 * (X @ X).T),
    "tr XXXX": (tr(X @ X @ X @ X), X, 4 * (X @ X @ X).T),
    "tr AXX": (tr(A @ X @ X), X, (X @ A + A @ X).T),
    "tr of a fourth order": (tr(B.T @ X.T @ C @ X @ X.T @ C @ X @ B), X,
        C @ X @ X.T @ C @ X @ B @ B.T + C.T @ X @ B @ B.T @ X.T @ C.T @ X
        + C @ X @ B @ B.T @ X.T @ C @ X + C.T @ X @ X.T @ C.T @ X @ B @ B.T),
    # linear forms (69-72)
    "x'a": (dot(x, a), x, a),
    "a'x": (dot(a, x), x, a),
    "a'Xb": (a @ X @ b, X, outer(a, b)),
    "a'X'b": (a @ X.T @ b, X, outer(b, a)),
    "a'Xa": (a @ X @ a, X, outer(a, a)),
    "a'X'a": (a @ X.T @ a, X, outer(a, a)),
    "a'Xb by b": (a @ X @ b, b, X.T @ a),
    "a'Xb by a": (a @ X @ b, a, X @ b),
    # quadratic forms (76-88, 97)
    "(sum X)^2": (total(X) ** 2, X, 2 * total(X) * full),
    "b'X'Xc": (b @ X.T @ X @ c, X, X @ (outer(b, c) + outer(c, b))),
    "(Bx + b)'C(Dx + d)": (dot(B @ x + b, C @ (D @ x + d)), x, B.T @ C @ (D @ x + d) + D.T @ C.T @ (B @ x + b)),
    "b'X'DXc": (b @ X.T @ D @ X @ c, X, D.T @ X @ outer(b, c) + D @ X @ outer(c, b)),
    "(Xb + c)'D(Xb + c)": (dot(residual, D @ residual), X, outer((D + D.T) @ residual, b)),
    "x'Bx": (x @ B @ x, x, (B + B.T) @ x),
    "x'Bx + b'x": (x @ B @ x + dot(b, x), x, (B + B.T) @ x + b),
    "x'x": (dot(x, x), x, 2 * x),
    "x'Sx": (x @ S @ x, x, 2 * S @ x),
    "(x - Bs)'S(x - Bs) by s": (dot(x - B @ s, S @ (x - B @ s)), s, -2 * B.T @ S @ (x - B @ s)),
    "(x - s)'S(x - s) by x": (dot(x - s, S @ (x - s)), x, 2 * S @ (x - s)),
    "(x - s)'S(x - s) by s": (dot(x - s, S @ (x - s)), s, -2 * S @ (x - s)),
    "(x - Bs)'S(x - Bs) by x": (dot(x - B @ s, S @ (x - B @ s)), x, 2 * S @ (x - B @ s)),
    "(x - Bs)'S(x - Bs) by B": (dot(x - B @ s, S @ (x - B @ s)), B, -2 * outer(S @ (x - B @ s), s)),
    "a'XXb": (a @ X @ X @ b, X, outer(a, X @ b) + outer(X.T @ a, b)),
    "a'XXXb": (a @ X @ X @ X @ b, X, outer(a, X @ X @ b) + outer(X.T @ a, X @ b) + outer(X.T @ X.T @ a, b)),
    "x'Bx by B": (x @ B @ x, B, outer(x, x)),
    # norms (129-132)
    "|x - a|": (sg.sqrt(norm2(x - a)), x, (x - a) / sg.sqrt(norm2(x - a))),
    "|x|^2": (norm2(x), x, 2 * x),
    "|X|^2": (norm2(X), X, 2 * X),
    "|X|": (sg.sqrt(norm2(X)), X, X / sg.sqrt(norm2(X))),
    "|AX - B|^2": (norm2(A @ X - B), X, 2 * A.T @ (A @ X - B)),
    "|XA - B|^2": (norm2(X @ A - B), X, 2 * (X @ A - B) @ A.T),
    "|Ax - b|^2": (norm2(A @ x - b), x, 2 * A.T @ (A @ x - b)),
    "|Ax - b|^2 + alpha |x|^2": (norm2(A @ x - b) + alpha * norm2(x), x, 2 * A.T @ (A @ x - b) + 2 * alpha * x),
    "|X'b|^2": (norm2(X.T @ b), X, 2 * outer(b, b) @ X),
    "|XX' - A|^2": (norm2(X @ X.T - A), X, 2 * (X @ X.T - A + (X @ X.T - A).T) @ X),
    "|x - As|^2 by A": (norm2(x - A @ s), A, -2 * outer(x - A @ s, s)),
    "sum |x|": (total(sg.abs(x)), x, sg.sign(x)),
    "1 / |x|": (1 / sg.sqrt(norm2(x)), x, -x / norm2(x) ** 1.5),
    "|x|^4": (norm2(x) ** 2, x, 4 * norm2(x) * x),
    "log |x|^2": (sg.log(norm2(x)), x, 2 * x / norm2(x)),
    "<A, X>": (total(A * X), X, A),
    "<A, X X>": (total(A * X * X), X, 2 * A * X),
    "sum d x^2": (total(d * x**2), x, 2 * d * x),
    # elementwise functions
    "sum exp": (total(sg.exp(x)), x, sg.exp(x)),
    "sum log": (total(sg.log(x)), x, 1 / x),
    "sum sin": (total(sg.sin(x)), x, sg.cos(x)),
    "sum cos": (total(sg.cos(x)), x, -sg.sin(x)),
    "sum tan": (total(sg.tan(x)), x, 1 + sg.tan(x) ** 2),
    "sum tanh": (total(sg.tanh(x)), x, 1 - sg.tanh(x) ** 2),
    "sum sinh": (total(sg.sinh(x)), x, sg.cosh(x)),
    "sum cosh": (total(sg.cosh(x)), x, sg.sinh(x)),
    "sum sigmoid": (total(sigma), x, sigma * (1 - sigma)),
    "sum softplus": (total(sg.nn.softplus(x)), x, sigma),
    "sum log sigmoid": (total(sg.log(sigma)), x, 1 - sigma),
    "sum x sigmoid": (total(x * sigma), x, sigma + x * sigma * (1 - sigma)),
    "sum sqrt": (total(sg.sqrt(x)), x, 1 / (2 * sg.sqrt(x))),
    "sum 1/x": (total(1 / x), x, -1 / x**2),
    "sum x^3": (total(x**3), x, 3 * x**2),
    "sum exp -x^2": (total(sg.exp(-(x**2))), x, -2 * x * sg.exp(-(x**2))),
    "sum x log x": (total(x * sg.log(x)), x, sg.log(x) + 1),
    "sum atan": (total(sg.atan(x)), x, 1 / (1 + x**2)),
    "sum relu": (total(sg.nn.relu(x)), x, sg.where(x > 0, 1.0, 0.0)),
    "sum sin AX": (total(sg.sin(A @ X)), X, A.T @ sg.cos(A @ X)),
    "sum exp Xb": (total(sg.exp(X @ b)), X, outer(sg.exp(X @ b), b)),
    "exp a'Xb": (sg.exp(a @ X @ b), X, sg.exp(a @ X @ b) * outer(a, b)),
    "a' tanh(Xb + c)": (dot(a, sg.tanh(residual)), X, outer(a * (1 - sg.tanh(residual) ** 2), b)),
    "a' tanh(Xb + c) by c": (dot(a, sg.tanh(residual)), c, a * (1 - sg.tanh(residual) ** 2)),
    "a' tanh(Xb + c) by b": (dot(a, sg.tanh(residual)), b, X.T @ (a * (1 - sg.tanh(residual) ** 2))),
    # probabilities
    "logsumexp": (sg.logsumexp(x), x, p),
    "-log p_k": (-sg.log(p)[k], x, p - e_k),
    "b'p": (dot(b, p), x, p * (b - dot(b, p))),
    "entropy of p": (-dot(p, sg.log(p)), x, -p * (sg.log(p) - dot(p, sg.log(p)))),
    "|p|^2": (norm2(p), x, 2 * p * (p - norm2(p))),
    "logistic loss": (sg.log(1 + sg.exp(-t * dot(a, x))), a, -t * sg.sigmoid(-t * dot(a, x)) * x),
    "cross-entropy of a layer": (-dot(e_k, sg.log(sg.nn.softmax(X @ b))), X, outer(sg.nn.softmax(X @ b) - e_k, b)),
    # structured sums and products
    "a' diag(x) b": (a @ diag(x) @ b, x, a * b),
    "a' diagonal of AX": (total(a * sg.einsum("ij,ji->i", A, X)), X, A.T @ diag(a)),
    "mean": (mean, x, ones / SIZE),
    "variance": (total((x - mean) ** 2) / SIZE, x, 2 * (x - mean) / SIZE),
    "sum of squared differences": (total((x[:, None] - x[None, :]) ** 2), x, 4 * (SIZE * x - total(x))),
    "spread of rows": (norm2(X - sg.mean(X, axis=0)), X, 2 * (X - sg.mean(X, axis=0))),
    "a'xx'b": (a @ outer(x, x) @ b, x, dot(a, x) * b + dot(b, x) * a),
    "(a'x)^3": (dot(a, x) ** 3, x, 3 * dot(a, x) ** 2 * a),
    "a'x / b'x": (dot(a, x) / dot(b, x), x, (a * dot(b, x) - b * dot(a, x)) / dot(b, x) ** 2),
    "x'Ax / x'x": (x @ A @ x / dot(x, x), x, (A + A.T) @ x / dot(x, x) - 2 * (x @ A @ x) * x / dot(x, x) ** 2),
    "a'x / |x|": (dot(a, x) / sg.sqrt(norm2(x)), x, a / sg.sqrt(norm2(x)) - dot(a, x) * x / norm2(x) ** 1.5),
    "prod x": (sg.prod(x), x, sg.prod(x) / x),
    "sum of running sums": (total(sg.cumsum(x)), x, sg.constant([4.0, 3.0, 2.0, 1.0])),
    "sum X kron A": (total(sg.kron(X, A)), X, total(A) * full),
    "sum over rows": (total(a * sg.sum(X, axis=1)), X, outer(a, ones)),
    "sum over columns": (total(a * sg.sum(X, axis=0)), X, outer(ones, a)),
}

JACOBIANS: dict[str, tuple[Expr, Expr, Expr]] = {
    "Ax": (A @ x, x, A),
    "x'A": (x @ A, x, A.T),
    "a o x": (a * x, x, diag(a)),
    "sigmoid": (sigma, x, diag(sigma * (1 - sigma))),
    "softmax": (p, x, diag(p) - outer(p, p)),
    "x / |x|": (x / sg.sqrt(norm2(x)), x, I / sg.sqrt(norm2(x)) - outer(x, x) / norm2(x) ** 1.5),
    "tanh(Ax)": (sg.tanh(A @ x), x, diag(1 - sg.tanh(A @ x) ** 2) @ A),
    "xx'b": (outer(x, x) @ b, x, outer(x, b) + dot(x, b) * I),
}

HESSIANS: dict[str, tuple[Expr, Expr, Expr]] = {
    "x'Bx": (x @ B @ x, x, B + B.T),
    "x'x": (dot(x, x), x, 2 * I),
    "|Ax - b|^2": (norm2(A @ x - b), x, 2 * A.T @ A),
    "(a'x)^3": (dot(a, x) ** 3, x, 6 * dot(a, x) * outer(a, a)),
    "logsumexp": (sg.logsumexp(x), x, diag(p) - outer(p, p)),
    "softplus a'x": (sg.nn.softplus(dot(a, x)), x, sg.sigmoid(dot(a, x)) * (1 - sg.sigmoid(dot(a, x))) * outer(a, a)),
    "sum exp": (total(sg.exp(x)), x, diag(sg.exp(x))),
    "|x|": (sg.sqrt(norm2(x)), x, I / sg.sqrt(norm2(x)) - outer(x, x) / norm2(x) ** 1.5),
}
# fmt: on

TABLES: dict[str, tuple[Callable[[Expr, Expr], Expr], dict[str, tuple[Expr, Expr, Expr]]]] = {
    "gradient": (sg.grad, GRADIENTS),
    "jacobian": (sg.jacobian, JACOBIANS),
    "hessian": (sg.hessian, HESSIANS),
}
CASES = [(kind, name) for kind, (_, table) in TABLES.items() for name in table]
PRINTED = (
    "tr AXB", "tr XX", "tr X'BX", "a'Xb", "x'Bx", "b'X'Xc", "|Ax - b|^2", "|x - a|", "sum tanh",
    "logsumexp", "-log p_k", "a' tanh(Xb + c)", "(a'x)^3", "variance", "sum over rows",
)  # fmt: skip


def test_there_are_a_hundred() -> None:
    assert len(CASES) >= 100


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_identity(kind: str, name: str) -> None:
    derivative, table = TABLES[kind]
    expression, by, expected = table[name]
    found = derivative(expression, by)
    assert sg.equivalent(found, expected)
    assert sg.equivalent(sg.simplify(found), expected)


def test_printed_forms(golden: Callable[[str, str], None]) -> None:
    rows = []
    for name in PRINTED:
        expression, by, _ = GRADIENTS[name]
        shown = sg.simplify(sg.grad(expression, by))
        rows.append(f"∂/∂{by.name} {name}\n    {str(shown).replace(chr(10), chr(10) + '    ')}")
    golden("derivations/identities.txt", "\n".join(rows) + "\n")
