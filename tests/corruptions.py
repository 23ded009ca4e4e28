# ruff: noqa: E501 - a table: one corruption per line
"""What can go wrong, one line each: a name, how the product is broken, the check that must notice.

In: nothing. Out: `CORRUPTIONS`, which tests/test_corruptions.py walks: every check passes on the
product as it is, and fails on the corrupted one. The checks are those of the other test files, with
arguments that these files use too; `graphs` are seeds of the random graphs of tests/test_fuzz.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzzing
import pytest
import test_batches
import test_cache
import test_cache_start
import test_compile
import test_converts
import test_convolution
import test_counts
import test_derivations
import test_emit
import test_equivalent
import test_flatten
import test_grad
import test_grad_reindex
import test_groups
import test_large_models
import test_losses
import test_memory
import test_ops_table
import test_optim
import test_pool
import test_pooling
import test_products
import test_profile
import test_provenance
import test_reading
import test_recompute
import test_repeat
import test_rewrite
import test_rewrite_lookalikes
import test_rewrite_normalisation
import test_rewrite_rules
import test_scan
import test_scan_bodies
import test_scan_native
import test_schedule_cases
import test_show
import test_small_batches
import test_state
import test_threads
import test_training_tools
import test_vecmath
import test_verify
import test_winograd
from corrupting import Change, anywhere, body, edit, item, partial, rule, rule_named, text
from mpmath import mp

from codegen import bundle, entry
from codegen.target import Target
from symgrad.rewrite.patterns import (
    apply,
    const,
    log,
    scalar,
    sigmoid,
    sinh,
    softplus,
    spread,
    sqrt,
    tanh,
    total,
    var,
    where,
)
from symgrad.scalar import sp

x, y, z, p, g, c, u = *(var(name) for name in "xyzpg"), const("c"), scalar("u")


@dataclass(frozen=True)
class Corruption:
    """`check(*arguments)` must fail while `change` is in force."""

    name: str
    change: Change
    check: Callable[..., Any]
    arguments: tuple[Any, ...]


# -- checks that need something around them --------------------------------------------------------


def walk(name: str) -> None:
    """One rule of the rewriting tables, as the test that walks them checks it."""
    test_rewrite_rules.check(rule_named(name))


# Seeds of tests/test_fuzz.py that together have what can go wrong in a schedule.
SEEDS = (
    1, 17, 20, 33, 168, 10198, 284, 1514, 32, 40, 25, 348, 10003, 10020, 10029, 65, 10686, 10893,
    14328, 30066,
)  # fmt: skip


def graphs() -> None:
    """Random graphs as loops and in the arena."""
    for seed in SEEDS:
        fuzzing.check_case(fuzzing.case_of(seed), native=False)


def graph(seed: int) -> None:
    """One random graph as loops."""
    fuzzing.check_case(fuzzing.case_of(seed), native=False)


def op(test: Callable[..., Any], *arguments: Any) -> None:
    """A test of the op table, at its precision."""
    with mp.workdps(60):
        test(*arguments)


def emitted(test: Callable[..., Any], *arguments: Any) -> None:
    """A test of emitted code, for the widest vectors there are."""
    test(Target.named("native"), *arguments)


def epochs(test: Callable[..., Any], *arguments: Any) -> None:
    """A test of native epochs."""
    test(logged, *arguments)


def shared(test: Callable[..., Any], *arguments: Any) -> None:
    """A test of kernels shared among threads, however small these are; by a pool of its own."""
    bundle._pool.cache_clear()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("codegen.shares.GRAIN", 1e-3)
            test(*arguments)
    finally:
        bundle._pool.cache_clear()


def in_parts() -> None:
    """Random graphs, their sums in parts."""
    for seed in (33, 284, 10003):
        with pytest.MonkeyPatch.context() as patch:
            test_threads.test_sums_in_parts(seed, patch)


def logged(rows: int) -> test_batches.Logged:
    source = test_batches.logging_step(2) + entry.text()
    return test_batches.Logged(test_batches.load(test_batches.compile_text(source)), 2, rows)


def alike(name: str) -> None:
    """A formula that looks like those of the rules."""
    for stages in (test_rewrite_lookalikes.rewrite.PREPARE, test_rewrite_lookalikes.rewrite.STAGES):
        test_rewrite_lookalikes.test_look_alikes_keep_their_values(name, stages)


def every(test: Any) -> None:
    """A parametrised test with all its parameters."""
    cases: list[dict[str, Any]] = [{}]
    for mark in test.pytestmark:
        names = [n.strip() for n in mark.args[0].split(",")]
        rows = []
        for given in mark.args[1]:
            given = given.values if hasattr(given, "marks") else given if names[1:] else (given,)
            rows.append(dict(zip(names, given)))
        cases = [{**case, **row} for case in cases for row in rows]
    for case in cases:
        test(**case)


def uncached(test: Callable[..., Any], *arguments: Any) -> None:
    """A test that compiles all it needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYMGRAD_CACHE", "off")
        test(*arguments)


def in_folder(test: Callable[..., Any], *arguments: Any) -> None:
    """A test that gets a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        test(Path(folder), *arguments)


def caching(test: Callable[..., Any], *arguments: Any) -> None:
    """A test with an object cache of its own."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYMGRAD_CACHE", folder)
        patch.delenv("SYMGRAD_CHECK", raising=False)
        test(*arguments)


def of(check: Callable[..., Any], *arguments: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    return check, arguments


OPS, DERIVE, SCHEDULE = test_ops_table, "symgrad.derive", "symgrad.schedule"
# fmt: off
TABLE: list[tuple[str, Change, tuple[Callable[..., Any], tuple[Any, ...]]]] = [
    # -- rewrite rules
    ("a sign lost", rule("sign of difference", x - y), of(walk, "sign of difference")),
    ("a sign lost in a quotient", rule("over negative", x / y), of(walk, "over negative")),
    ("a constant's sign lost", rule("minus constant", c + x), of(walk, "minus constant")),
    ("times instead of over", rule("over constant", c * x), of(walk, "over constant")),
    ("a root for its reciprocal", rule("power -1/2", sqrt(x)), of(walk, "power -1/2")),
    ("an odd function taken for even", rule("odd tanh", tanh(x)), of(walk, "odd tanh")),
    ("an even function taken for odd", rule("even cos", -apply("cos", x)), of(walk, "even cos")),
    ("branches not exchanged", rule("choice by not", where(x, y, z)), of(walk, "choice by not")),
    ("a sum without its sign", rule("sum of negative", total(x)), of(walk, "sum of negative")),
    ("0 * x is 0 for floats", anywhere("whole times 0"), of(test_rewrite.test_what_is_not_done_to_floats)),
    ("constants folded in the wrong order", edit("symgrad.rewrite.structure:fold", "numpy(*arguments)", "numpy(*arguments[::-1])"), of(walk, "fold constants")),
    ("a penalty that makes weights grow", rule("weight decay", spread(1 + c * u) * p - spread(u) * g), of(walk, "weight decay")),
    ("dampening from the first step on", edit("symgrad.optim.rules:SGD.rule", "first * self.dampening", "first * 0"), of(test_optim.test_equals_pytorch, "sgd dampening")),
    ("a mean over labels that are left out", edit("symgrad.losses:_selected", "ops.where(used, weights, 0)", "weights"), of(test_losses.test_equals_pytorch, "nll_loss ignore", "mean")),
    ("a plateau noticed one pass early", edit("symgrad.callbacks:ReduceOnPlateau.__call__", "self.waited > ", "self.waited >= "), of(test_training_tools.test_plateaus_equal_pytorchs, {})),
    ("a flat gradient in another order", edit("symgrad.flat:FlatFunction._joined", "in pieces", "in pieces[::-1]"), of(test_flatten.test_some_parameters_vary_and_others_stay)),
    ("every player moved by all losses", edit("symgrad.compile.pipeline:Pipeline._differentiate", "outputs[loss]", 'outputs["loss"]'), of(test_groups.test_several_losses_each_move_their_own, "interpret")),
    ("logsumexp without its maximum", edit("symgrad.rewrite.stabilise:log_sum_exp", '"add", top', '"sub", top'), of(walk, "logsumexp")),
    ("softmax shifted by the smallest", edit("symgrad.rewrite.stabilise:shift", '"max"', '"min"'), of(walk, "softmax")),
    ("softmax of other axes", anywhere("softmax"), of(alike, "softmax by the columns' sums")),
    ("any difference of exps is sinh", anywhere("sinh"), of(alike, "nearly sinh")),
    ("any sum of exps is cosh", anywhere("cosh"), of(alike, "nearly cosh")),
    ("any sum is that of a one-hot row", anywhere("sum of one-hot"), of(alike, "one-hot columns")),
    ("deviations from any mean", anywhere("sum of deviations"), of(alike, "deviations from another's mean")),
    ("variance with any weights", anywhere("variance"), of(alike, "variance with half the weights")),
    ("powers that are no whole numbers", anywhere("whole power"), of(alike, "a power that is no whole")),
    ("sigmoid mirrored", rule("sigmoid of exp", sigmoid(-x)), of(walk, "sigmoid of exp")),
    ("tanh of twice the argument", rule("tanh of exp", tanh(x)), of(walk, "tanh of exp")),
    ("a factor 2 lost", rule("sinh", sinh(x)), of(walk, "sinh")),
    ("cosh for sinh", rule("cosh", 2 * sinh(x)), of(walk, "cosh")),
    ("variance around the wrong mean", edit("symgrad.rewrite.stabilise:variance", '"sub", x', '"add", x'), of(walk, "variance")),
    ("log of a quotient", rule("log of exp over", x + log(y)), of(walk, "log of exp over")),
    ("x + x is 3 x", rule("twice", 3 * x), of(walk, "twice")),
    ("a common factor's sign", rule("common factor of difference", x * (y + z)), of(walk, "common factor of difference")),
    ("a quotient's sign", rule("times difference of quotients", y + p * x), of(walk, "times difference of quotients")),
    ("one-hot rows sum to 2", rule("sum of one-hot", 2), of(walk, "sum of one-hot")),
    ("cross-entropy with the other sign", rule("binary cross-entropy, accurate", softplus(x) + x * y), of(walk, "binary cross-entropy, accurate")),
    ("operands of a chain exchanged", edit("symgrad.rewrite.factor:_follow", "[a[0], b[0]], kept", "[b[0], a[0]], kept"), of(walk, "order of products")),
    ("a transpose forgotten", edit("symgrad.rewrite.factor:transposed_product", "for k in n.attrs[1]", "for k in sorted(n.attrs[1])"), of(walk, "transpose of product")),
    ("everything is equivalent", edit("symgrad.equivalent:equivalent", "verdict = same_mod_p(a, b)", "verdict = True"), of(test_equivalent.test_different, "a small factor")),
    ("the logarithm of what rows chose", edit("symgrad.rewrite.stabilise:classes_along", "return along and", "return"), of(alike, "cross-entropy over the columns")),
    # -- the op table
    ("exp' scaled", partial("exp", lambda x, out: 1.01 * out), of(op, OPS.test_first_derivative, "exp")),
    ("cos' without its sign", partial("cos", lambda x, out: sp.sin(x)), of(op, OPS.test_first_derivative, "cos")),
    ("quotient rule's sign", partial("div", lambda x, y, out: (1 / y, out / y)), of(op, OPS.test_first_derivative, "div")),
    ("product rule exchanged", partial("mul", lambda x, y, out: (x, y)), of(op, OPS.test_first_derivative, "mul")),
    ("tanh' not squared", partial("tanh", lambda x, out: 1 - out), of(op, OPS.test_first_derivative, "tanh")),
    ("sigmoid' with a plus", partial("sigmoid", lambda x, out: out * (1 + out)), of(op, OPS.test_first_derivative, "sigmoid")),
    ("atan2's operands exchanged", edit("symgrad.table:_angle", "x / r / r, -y / r / r", "-y / r / r, x / r / r"), of(op, OPS.test_first_derivative, "atan2")),
    ("gelu' without its density", edit("symgrad.table:_gelu_slope", "+ x * density", "+ density"), of(op, OPS.test_first_derivative, "gelu")),
    ("a tie gives everything to one side", edit("symgrad.table:_share", "0.5", "1.0"), of(op, OPS.test_derivatives_at_kinks, "maximum", (2.0, 2.0), [0.5, 0.5])),
    ("the bounds of clip exchanged", edit("symgrad.table:_bounds", "_by(below, out), _by((x > high) | (high < low), out)", "_by((x > high) | (high < low), out), _by(below, out)"), of(op, OPS.test_first_derivative, "clip")),
    ("a power at 0 is NaN", edit("symgrad.table:_power", "sp.where(sp.equal(x, 0.0), 1.0, x)", "x"), of(op, OPS.test_derivatives_at_kinks, "pow", (0.0, 2.0), [0, 0])),
    ("softplus overflows", body("softplus", lambda x: sp.log(1 + sp.exp(x))), of(op, OPS.test_accuracy_at_ordinary_and_extreme_points, "softplus", "float32")),
    ("leaky relu leaks 1", body("leaky_relu", lambda x, a: sp.where(x > 0, x, x)), of(op, OPS.test_first_derivative, "leaky_relu")),
    # -- derivatives
    ("one operand of a product only", edit(f"{DERIVE}.adjoints:_contract", "for position in wanted:", "for position in wanted[:1]:"), of(test_grad.test_first_derivatives, "matmul")),
    ("ties of a maximum all count", edit(f"{DERIVE}.adjoints:_reduce", 'Map.of("div", cotangent, count)', "cotangent"), of(test_grad.test_ties_share_evenly)),
    ("ties of a maximum, forward", edit(f"{DERIVE}.tangents:_reduce", 'return Map.of("div", summed, count)', "return summed"), of(test_grad.test_ties_share_evenly)),
    ("the others' product from one side", edit(f"{DERIVE}.adjoints:others_product", "running(-1))", "running(1))"), of(test_grad.test_product_with_zeros, [2.0, 0, 3])),
    ("cumsum not reversed", edit(f"{DERIVE}.adjoints:_reversed_cumsum", "return flip(Reduce.of(\"cumsum\", flip(cotangent, axis, size), (axis,)), axis, size)", "return Reduce.of(\"cumsum\", cotangent, (axis,))"), of(test_grad.test_first_derivatives, "cumsum")),
    ("an index map without its offset", edit(f"{DERIVE}.reindex:_axis_map", "return int(form.get(ONE, Fraction(0)) * divisor), terms, divisor", "return 0, terms, divisor"), of(test_grad_reindex.test_transpose_is_adjoint, 0)),
    ("fixed indices hit everywhere", edit(f"{DERIVE}.reindex:transposed", "tests = [t for t in tests if", "tests = [t for t in tests if False and"), of(test_grad_reindex.test_transpose_is_adjoint, 0)),
    ("the gradient of take doubled", edit(f"{DERIVE}.adjoints:_gather", "ScatterAdd.of(cotangent", "ScatterAdd.of(add(cotangent, cotangent)"), of(test_grad.test_first_derivatives, "gather")),
    ("a product's second tangent lost", edit(f"{DERIVE}.tangents:_contract", "return total(parts)", "return parts[0]"), of(test_grad.test_first_derivatives, "matmul")),
    ("only the last reader's cotangent", edit(f"{DERIVE}.reverse:sweep", "cotangent = total(parts)", "cotangent = parts[-1]"), of(test_grad.test_first_derivatives, "gram")),
    ("a part that comes twice counts once", edit(f"{DERIVE}.algebra:total", "part if times == 1 else", "part if times >= 1 else"), of(test_grad.test_first_derivatives, "square norm")),
    # -- convolution and pooling
    ("windows a step early", edit("symgrad.nn.windows:windows", "maps.append((-where.before[i], terms, 1))", "maps.append((1 - where.before[i], terms, 1))"), of(test_convolution.check_definition, False, "padded")),
    ("taps without dilation", edit("symgrad.nn.windows:windows", "(lead + axes + i, where.dilation[i])", "(lead + axes + i, 1)"), of(test_convolution.check_definition, False, "dilated")),
    ("same padding all before", edit("symgrad.nn.windows:_padding", "tuple((r - 1) // 2 for r in reach), tuple(r // 2", "tuple(r // 2 for r in reach), tuple((r - 1) // 2"), of(test_convolution.check_definition, False, "same, even kernel")),
    ("a transposed kernel turned", edit("symgrad.nn.windows:spread_windows", "-where.dilation[i]", "where.dilation[i]"), of(test_convolution.check_definition, True, "plain")),
    ("a last window behind the border", edit("symgrad.nn.windows:window", "(count - 1) * step >= n + first", "(count - 1) * step > n + first"), of(test_pooling.test_pooling_by_definition, "max ceil, last window outside")),
    ("padding counted always", edit("symgrad.nn.pooling:_share", "if include else", "if True else"), of(test_pooling.test_pooling_by_definition, "avg padded tiles, real elements")),
    ("padding may be the largest", edit("symgrad.nn.pooling:_max_pool", "_taken(x, where, -math.inf)", "_taken(x, where, 0.0)"), of(test_pooling.test_padding_is_never_the_largest, "interpret")),
    ("a product's map without its offset", edit("symgrad.rewrite.indexmaps:_pushed", "moved = [(o, ", "moved = [(0, "), of(test_convolution.test_rewriting_is_exact, "stride 2")),
    ("a map of a map without its offset", edit("symgrad.rewrite.indexmaps:_composed", "constant = offset * (common // divisor)", "constant = 0"), of(test_pooling.test_rewriting_is_exact, "max overlapping, padded")),
    ("a spread axis that leaves the operand", edit("symgrad.rewrite.indexmaps:_map_of_view", "k in own or not n.inside(k)", "k in own"), of(test_convolution.test_maps_of_views)),
    ("row factors stay below", edit("symgrad.rewrite.rowfactors:rows_together", "quotient(above, below, n.dtype)", "quotient(above, [], n.dtype)"), of(walk, "row factors together")),
    ("deviations that are none", edit("symgrad.rewrite.rowfactors:_sums_to_zero", "mean_of(t.args[0], x, n, t)", "True"), of(test_rewrite_normalisation.test_only_deviations_from_the_own_mean_vanish)),
    # -- the scheduler
    ("idle lanes count as live", edit(f"{SCHEDULE}:live_lanes", "return symbols.poly(size) - block * symbols.lanes", "return None"), of(graphs)),
    ("no partial blocks", edit(f"{SCHEDULE}:Symbols.has_rest", "return self.derived", "return Poly() or self.derived"), of(graphs)),
    ("one block too few", edit(f"{SCHEDULE}:Symbols.blocks", '"ceildiv"', '"div"'), of(graphs)),
    ("the rest of a tiling lost", edit(f"{SCHEDULE}:split", "if parts > more:", "if not more:"), of(graphs)),
    ("sums across lanes without a mask", edit(f"{SCHEDULE}:Product._tile_across", "live if live is None else live(b)", "None"), of(graphs)),
    ("the end of a panel not multiplied", edit(f"{SCHEDULE}:Product._loop_over", "if remainder.constant != 0:", "if False:"), of(graphs)),
    ("the epilogue reads behind the end", edit(f"{SCHEDULE}:Product._live", "if self.tile.across or", "if True or"), of(graphs)),
    ("the result stored without its epilogue", edit(f"{SCHEDULE}:Product._finish", 'w.bind(node, index, w.let(w.compute(node, index), "e"))', "w.bind(node, index, value)"), of(graphs)),
    ("tiles converted with the wrong stride", edit(f"{SCHEDULE}:_rows_to_lanes", "b * lanes * features + j", "b * lanes * features"), of(graphs)),
    ("tiles converted to the wrong block", edit(f"{SCHEDULE}:_lanes_to_rows", "b * w.lanes * features + j", "b * features + j"), of(graphs)),
    ("panels of the wrong height", edit(f"{SCHEDULE}:_lanes_to_panels", "(at[0] + first) * w.lanes", "at[0] + first"), of(graphs)),
    ("accumulators torn from their tiles", edit(f"{SCHEDULE}:_pieces", "if used:", "if False:"), of(graphs)),
    ("parts of sums lost", edit(f"{SCHEDULE}:_RowPass._add_parts", '"ceildiv"', '"div"'), of(in_parts)),
    ("sums that are kept apart not summed", edit(f"{SCHEDULE}:_sum_of_parts", "offset + turn * count", "offset"), of(in_parts)),
    ("the narrow rest of a conversion lost", edit(f"{SCHEDULE}:_tiles", 's.derived("ceildiv", rest, lanes, f"{features}.tail")', "Poly()"), of(graphs)),
    ("in place where operands lie otherwise", edit(f"{SCHEDULE}:_inplace", 'if group.kind != "plain" or not w.was_flat:', 'if group.kind in ("convert", "copy"):'), of(graphs)),
    ("a state overwritten before it is read", edit(f"{SCHEDULE}:Places._after_readers", "if reader is not group:", "if False:"), of(graphs)),
    ("stores between the loads of a kernel", edit(f"{SCHEDULE}:_compute_all", "w.bind(n, at, values[-1])", "w.bind(n, at, values[-1]), nest.store(w, n, at, values[-1])"), of(graphs)),
    ("vectors copied together read in steps too short", edit("symgrad.schedule.products:Product._vector", "* width + j", "* (width - 1) + j"), of(test_products.test_attention_whose_vectors_are_copied_together)),
    ("tokens of all samples taken for the same memory", edit("symgrad.schedule.aliases:_alike", "n.shape[0] == arg.shape[0]\n        and layouts[n] == lane_layout(n.ndim, 0)", "True"), of(test_products.test_tokens_of_all_samples_as_rows)),
    ("a derivative of two sums kept in place of one", edit("symgrad.schedule.early:_made_of", "same if m in made else is_leaf_in_memory(m)", "same"), of(test_products.test_the_derivative_of_an_activation_is_kept_in_place_of_its_argument, "gelu")),
    ("states exchanged without a copy", edit(f"{SCHEDULE}:Places.place", "and place in states", "and False"), of(every, test_schedule_cases.test_states_from_states)),
    ("kernels in the order of their making", edit(f"{SCHEDULE}:in_order", "waiting[other] += 1", "pass"), of(graphs)),
    ("a kernel that reads what comes later", edit(f"{SCHEDULE}:Fusion._can_join", "return False", "return True"), of(graphs)),
    ("stages of rows in the wrong order", edit(f"{SCHEDULE}:_RowPass._stages", "key=lambda s: (s.level, len(s.space) > 0)", "key=lambda s: (-s.level, len(s.space) > 0)"), of(graphs)),
    ("a reduction read before it ends", edit(f"{SCHEDULE}:_RowPass._later", "return 1\n    here", "return 0\n    here"), of(graphs)),
    ("a maximum that starts at 0", edit(f"{SCHEDULE}:neutral", "-math.inf if law", "0.0 if law"), of(graphs)),
    ("sums over rows start anew in each block", edit(f"{SCHEDULE}:_RowPass._declare", "if n in self.sums:", "if False:"), of(graphs)),
    ("scattered sums without zeros", edit(f"{SCHEDULE}:write_scatter", 'w.store(name, layout, n, at, neutral("sum", n.dtype))', "pass"), of(graphs)),
    ("running sums one behind", edit(f"{SCHEDULE}:write_cumulate", 'w.body.append(Accumulate(acc, (), "add", w.value(n.args[0], at)))\n        nest.store(w, n, at, Get(acc, n.dtype))', 'nest.store(w, n, at, Get(acc, n.dtype))\n        w.body.append(Accumulate(acc, (), "add", w.value(n.args[0], at)))'), of(graphs)),
    ("kernels equal but for a constant", edit(f"{SCHEDULE}:fingerprint", 'text = f"{v.number!r}:{v.dtype}"', 'text = f"{v.dtype}"'), of(test_schedule_cases.test_kernels_that_differ_in_one_thing, "constants")),
    ("fills not taken at the border", edit(f"{SCHEDULE}:Writer._reindexed", "if not n.inside(axis) and not (within and divisor == 1):", "if False:"), of(graphs)),
    ("strided views without their gaps", edit(f"{SCHEDULE}:Writer._reindexed", "if divisor != 1:", "if False:"), of(graphs)),
    ("reshapes in the wrong order", edit(f"{SCHEDULE}:Writer.unravel", "*([linear] if rest else []), *reversed(behind)", "*reversed(behind), *([linear] if rest else [])"), of(graph, 10147)),
    ("few last rows taken for the first", edit(f"{SCHEDULE}:Product._few_tile", "t.lane: row,", "t.lane: row * 0,"), of(graphs)),
    ("leading axes taken for others", edit(f"{SCHEDULE}:Writer.unravel", "index.append(at[i])", "index.append(at[-1])"), of(graphs)),
    ("diagonals read where there is nothing", edit(f"{SCHEDULE}:Writer.address", "and not beside", ""), of(graphs)),
    ("a picked index off by one", edit(f"{SCHEDULE}:Writer.gather_index", 'Op("sub", (Index(size, "int64"), Const(1, "int64")), "int64")', 'Op("sub", (Index(size, "int64"), Const(2, "int64")), "int64")'), of(graphs)),
    ("every random node the same numbers", edit(f"{SCHEDULE}:draw", "n.stream", "0"), of(graphs)),
    ("random numbers of the wrong element", edit(f"{SCHEDULE}:Writer._random", "linear + i * stride", "linear + i"), of(graphs)),
    ("the random generator stands still", edit(f"{SCHEDULE}:Builder._advance_rng", 'Const(1, "int32")', 'Const(0, "int32")'), of(uncached, test_compile.test_random_numbers_are_those_of_the_seed_and_the_call, "native")),
    ("weights packed along the wrong axis", edit(f"{SCHEDULE}:Layout.unpack", "axes.append(position[a])", "axes.append(position[rank - 1 - a])"), of(test_state.test_layouts_are_invisible, test_state.Layout((1, 0), 1))),
    # -- memory
    ("a lifetime one call too short", edit("codegen.memory:lifetimes", "lives[name][0] if name in lives else i, i)", "lives[name][0] if name in lives else i, max(i - 1, lives[name][0] if name in lives else 0))"), of(test_memory.test_random_programs, 4)),
    ("places that overlap by a line", edit("codegen.memory:_best_gap", "return best if best >= 0 else reached", "return best if best >= 0 else max(reached - 64, 0)"), of(test_memory.test_random_programs, 3)),
    ("offsets not on cache lines", edit("codegen.memory:padded", "* ALIGNMENT", "* (ALIGNMENT - 4)"), of(test_memory.test_random_programs, 3)),
    ("in place although sizes differ", edit("codegen.memory:_slots", "and exact[written] == exact[read]", ""), of(test_memory.test_no_sharing_between_different_sizes_or_while_needed)),
    ("in place although still needed", edit("codegen.memory:_slots", "if dies and born", "if born"), of(test_memory.test_random_programs, 16)),
    ("in place of a part", edit("codegen.memory:inplace_pairs", "if alone and whole and", "if alone and"), of(every, test_memory.test_no_sharing_where_it_would_be_wrong)),
    ("plans not checked", edit("codegen.memory:check", "for k, (at, name) in enumerate(live):", "for k, (at, name) in enumerate(live[:0]):"), of(test_memory.test_check_catches_a_moved_buffer, 0)),
    ("carries that die in the text", edit("codegen.memory:lifetimes", "if name not in fresh[repeat]:", "if False:"), of(test_repeat.test_a_carry_keeps_its_place_for_the_whole_repeat)),
    ("stacks thought to belong to a turn", edit("codegen.carried:_afresh", "any(r.var in names for r in mixed)", "False"), of(test_repeat.test_parts_of_a_buffer)),
    ("a row of the turn before lost", edit("codegen.carried:_afresh", "reads[0].number <= writes[-1].number", "False"), of(test_repeat.test_parts_of_a_buffer)),
    ("in place of what the next turn reads", edit("codegen.memory:inplace_pairs", "all(names[1] in fresh[repeat] for repeat in around)", "True"), of(test_repeat.test_no_operand_is_overwritten_that_the_next_turn_reads)),
    ("a repeat of no turns run", edit("codegen.emit_driver:Driver._repeat", "repeat.calls if extent == 1 else ()", "repeat.calls"), of(test_repeat.test_a_number_of_turns_that_is_known, 0)),
    ("offsets at one place in all turns", edit("codegen.emit_driver:Driver._bytes", "max(pointer.depth, offset.depth)", "0"), of(test_repeat.test_sum_over_rows, 20, 7, "sse2")),
    ("offsets verified in the first turn only", edit("codegen.verify:_Calls.repeat", "self.space.loop(repeat.var, repeat.extent)", "self.space.loop(repeat.var, Poly.of(1))"), of(every, test_repeat.test_verify)),
    ("the clock counts no turns", text("codegen.emit_clock:TEXT", "add i64 %moved.old, %by", "add i64 0, %by"), of(test_repeat.test_times_are_those_of_all_turns)),
    # -- verifiers
    ("one copy of private memory for all threads", edit("codegen.memory:planned", "program.threads", "1"), of(test_pool.test_every_thread_has_its_own_private_memory)),
    ("races not noticed", edit("codegen.closures:Watch.note", "if clash.any():", "if False:"), of(every, test_pool.test_races_are_found)),
    ("private memory that outlives a turn", edit("codegen.interpret:_turn", "for array in private:", "for array in private[:0]:"), of(test_pool.test_private_memory_does_not_outlive_a_turn)),
    ("what turns share not verified", edit("codegen.verify:_check_sharing", 'if param.name in common and buffers[name].role != "private":', "if False:"), of(every, test_pool.test_what_may_not_be_split)),
    ("anything beside split loops", edit("codegen.splits:check", "elif not isinstance(s, Let):", "elif False:"), of(every, test_pool.test_what_may_not_be_split)),
    ("turns of split loops a turn early", edit("codegen.emit_statements:Statements._within", "Poly.of(TURN) - first", "Poly.of(TURN) - first - 1"), of(shared, test_pool.test_results_do_not_depend_on_threads, 3, 33)),
    ("turns lost between two parts", text("codegen.threads:WORK", "%finish = udiv i64 %finish.scaled, %chunks", "%finish = udiv i64 %begin.scaled, %chunks"), of(shared, test_pool.test_results_do_not_depend_on_threads, 3, 33)),
    ("bounds not verified", edit("codegen.verify:_outside", "if reach is None or start is None:", "if True:"), of(every, test_verify.test_broken_programs)),
    # -- polynomials
    ("a coefficient of exp", item("codegen.vecmath.exponential:EXP", "float32", (0.00019673, 0.00141080, 0.0083357, 0.041661, 0.16666618, 0.500003)), of(test_vecmath.test_interpreted, "exp", "float32", True)),
    ("the low part of log 2", item("codegen.vecmath.exponential:LN2", "float64", (6.93147180369123816490e-01, 0.0)), of(test_vecmath.test_interpreted, "exp", "float64", True)),
    ("log reduced at the wrong place", item("codegen.vecmath.logarithm:START", "float32", 0x3F4AAAAB), of(test_vecmath.test_interpreted, "log", "float32", True)),
    ("log without denormals", edit("codegen.vecmath.logarithm:log", "denormal = x < kit.tiny", "denormal = x < 0"), of(test_vecmath.test_interpreted, "log", "float32", True)),
    ("tanh of the wrong sign", edit("codegen.vecmath.exponential:tanh", "kit.sign_of(x)", "kit.sign_of(-x)"), of(test_vecmath.test_interpreted, "tanh", "float32", True)),
    ("erf's border moved", item("codegen.vecmath.exponential:ERF_BORDER", "float32", 2.0), of(test_vecmath.test_interpreted, "erf", "float32", True)),
    ("a Philox multiplier", edit("codegen.vecmath.integer:_philox", "0xCD9E8D57", "0xCD9E8D55"), of(test_vecmath.test_philox, 0)),
    ("nine rounds of Philox", edit("codegen.vecmath.integer:_philox", "range(10)", "range(9)"), of(test_vecmath.test_philox, 0)),
    ("remainders of the wrong sign", edit("codegen.vecmath.integer:divide_int", "where(wrong, rest + safe, rest)", "rest"), of(test_vecmath.test_integer_division, "mod", "int32")),
    # -- emitted kernels
    ("operands of fma exchanged", edit("codegen.emit_arithmetic:Arithmetic.multiply_add", 'self.intrinsic("fma", a, b, c)', 'self.intrinsic("fma", a, c, b)'), of(emitted, test_emit.test_register_tile_product, 4, 3)),
    ("one live lane too many", edit("codegen.emit_builder:Builder.first_lanes", '"icmp slt"', '"icmp sle"'), of(emitted, test_emit.test_elementwise_with_a_tail, "float32", 33)),
    ("masks inverted", edit("codegen.emit_builder:Builder.first_lanes", '"icmp slt"', '"icmp sge"'), of(emitted, test_emit.test_elementwise_with_a_tail, "float32", 16)),
    ("the last halves not added", edit("codegen.emit_arithmetic:Arithmetic.reduce", "while width > 1:", "while width > 2:"), of(emitted, test_emit.test_sums_across_lanes, "add", "float32", 16)),
    ("butterflies in the wrong order", edit("codegen.emit_arithmetic:Arithmetic.reduce_many", "i // width % 2 == 0 else n + i - width", "i // width % 2 == 1 else n + i - width"), of(emitted, test_emit.test_sums_across_lanes_update_weights_together, 1, 4, 2)),
    ("idle lanes accumulated", edit("codegen.emit_statements:Statements._accumulate", "if across and self.mask is not None:", "if False:"), of(emitted, test_emit.test_sums_across_lanes, "add", "float32", 21)),
    ("partial maxima that start at 0", edit("codegen.emit_arithmetic:Arithmetic.neutral", "-math.inf", "0.0"), of(emitted, test_emit.test_sums_across_lanes, "maximum", "float32", 21)),
    ("every other turn skipped", edit("codegen.emit_builder:Builder.close_loop", "{turn.step}\"", "{turn.step + 1}\""), of(emitted, test_emit.test_elementwise_with_a_tail, "float32", 33)),
    ("the rest of an unrolled loop lost", edit("codegen.emit_statements:Statements._for", "if rest == 1:", "if rest:\n        pass\n    elif rest == 1:"), of(emitted, test_emit.test_register_tile_product, 9, 1)),
    ("loads kept over stores", edit("codegen.emit_statements:Statements._invalidate", "self.versions.get(name, 0) + 1", "0"), of(emitted, test_emit.test_loads_are_seen_again_after_stores)),
    ("units of a transpose off by one", edit("codegen.emit_transpose:Transposes._unpack", "range(half * inner // 2, (half + 1) * inner // 2, unit)", "range((1 - half) * inner // 2, (2 - half) * inner // 2, unit)"), of(emitted, test_emit.test_rows_to_lanes, "float32", "zero", 16)),
    ("columns of a narrow tile off by one", edit("codegen.emit_transpose:Transposes._columns", "r * cols + c for r", "r * cols + (c + 1) % cols for r"), of(emitted, test_emit.test_rows_to_lanes, "float32", "zero", 3)),
    ("scattered lanes overwrite", edit("codegen.emit_statements:Statements._scatter_each", "{total} = {opcode} {scalar} {old}, {new}", "{total} = {opcode} {scalar} {new}, {new}"), of(emitted, test_emit.test_gather_and_scatter, "int32")),
    ("NaN lost in a maximum", edit("codegen.emit_arithmetic:Arithmetic._extremum", "if a.number is not None and not math.isnan(a.number):", "if True:"), of(emitted, test_emit.test_primitives, True)),
    ("comparisons turned round", item("codegen.emit_arithmetic:COMPARE", "less", ("ogt", "slt", "ult")), of(emitted, test_emit.test_primitives, True)),
    # -- Winograd's convolutions
    ("a border read as the image", edit("symgrad.schedule.winograd_tiles:Tiles._inside", "low + i < 0", "low + i < -1"), of(test_winograd.test_shapes, "forward", "even")),
    ("positions of flipped taps in forward order", edit("symgrad.schedule.winograd_images:Images._place_of", "not self.plan.reverse or", "True or"), of(test_winograd.test_shapes, "input gradient", "even")),
    ("an odd row of outputs stored twice", edit("symgrad.schedule.winograd_tiles:Tiles._there", "(size % m or m)", "m"), of(test_winograd.test_shapes, "forward", "odd")),
    ("the last tiles of an image left out", edit("symgrad.schedule.winograd_images:Images._multiply", "(self.wide - 1)", "0"), of(test_winograd.test_shapes, "forward", "panels and more")),
    ("idle samples in a weight gradient", edit("symgrad.schedule.winograd_gradients:Gradients._live_samples", "live is None", "True"), of(test_winograd.test_shapes, "weight gradient", "part of a block")),
    ("places beyond the image in a weight gradient", edit("symgrad.schedule.winograd_gradients:Gradients._holds", "turns.constant == 1", "True"), of(test_winograd.test_shapes, "weight gradient", "odd")),
    ("bands that are not cleared", edit("symgrad.schedule.winograd_gradients:Gradients._clear", "self.algorithm.positions * self.s_rows", "1"), of(test_winograd.test_shapes, "weight gradient", "even")),
    ("large tiles where nothing is tolerated", edit("symgrad.schedule.winograd:plan", "tolerance >= ", "tolerance <= "), of(test_winograd.test_chosen_where_it_is_faster, "forward", "small images")),
    # -- few images
    ("places that read nothing through a tap", edit("symgrad.schedule.pixels:_stretches", "0 <= at + phase.step * i < slide.size", "True"), of(test_small_batches.test_tiles_read_every_tap_inside_once, "same", 5)),
    ("tiles that differ made one", edit("symgrad.schedule.pixels:tiles", "last[1:3] == (width, stretches)", "last.width == width"), of(test_small_batches.test_tiles_read_every_tap_inside_once, "same", 2)),
    ("taps of the first sample alone", edit("symgrad.schedule.filters:_Tile._sum", "self.of._whole(stack, k) for k", "Poly() for k"), of(test_small_batches.check, "wide padding", "native")),
    ("rows however few", edit("symgrad.schedule.rows:row_size", "return None if sum", "return rows if sum"), of(test_small_batches.test_few_images_have_no_rows, 4)),
    ("neighbours around the end of a layout", edit("symgrad.schedule.converts:_innermost", "before == 0 or ", ""), of(test_small_batches.test_an_image_turns_by_tiles)),
    ("copies in tiles of axes that lie apart", edit("symgrad.schedule.converts:_numbered", "for a in plain if a != first", "for a in sorted(plain, reverse=True) if a != first"), of(test_converts.test_stacks, (3, 6, 5))),
    # -- memory, counts, profiles
    ("slices of a reversed loop in forward order", edit("symgrad.schedule.scan:Steps.of", "if body.reverse", "if False"), of(test_scan_native.test_reverse)),
    ("a carry one place too far in its stack", edit("symgrad.schedule.scan:LoopGroup._trail", "(n.value is carry) == reverse", "(n.value is carry) != reverse"), of(test_scan_native.compare, *test_scan_native.rnn("float32"))),
    ("backpropagation forwards through time", edit("symgrad.derive.loops:_Back.__init__", "loop.reverse != reverse", "loop.reverse"), of(test_scan.test_derivatives_against_differences)),
    ("the cotangent of a last carry forgotten", edit("symgrad.derive.loops:pull", "zeros(slot.shape, slot.dtype) if start is None else start", "zeros(slot.shape, slot.dtype)"), of(test_scan.test_derivatives_against_differences)),
    ("tangents of carries that start at zero forgotten", edit("symgrad.derive.loops:push_loop", "moving |= more", "break"), of(test_scan.test_derivatives_against_differences)),
    ("every result runs a loop of its own", edit("symgrad.loop:Loop.__eq__", "self._key == other._key", "self is other"), of(test_scan.test_two_results_share_one_loop_in_each_direction)),
    ("products of invariants moved into a loop", edit("symgrad.rewrite.factor:_chain", "and arg.free == n.free", ""), of(test_scan.test_what_does_not_change_in_the_loop_stays_outside)),
    ("steps of an identity in one direction only", edit("symgrad.identity.evaluate:_repeat", "steps[::-1] if loop.reverse else steps", "steps"), of(test_scan.test_gradients_are_equivalent_to_those_of_the_steps_written_out)),
    ("values of a body used outside", edit("symgrad.compile.graph:_no_loose_slots", "sorted(root.free, key=_order)", "()"), of(test_scan.test_a_value_of_the_body_has_none_outside)),
    ("carries dropped that others read", edit("symgrad.rewrite.hoist:_needed", "pending += [place[s] for s in news[k].free if s in place]", "pass"), of(test_scan.test_a_loop_does_nothing_in_vain)),
    ("a product behind the loop of the values before it", edit("symgrad.rewrite.hoist:_Behind.whole", "Scan.stacked(self.loop, a) if c else a", "Scan.stacked(self.loop, self.loop.carries[0]) if c else a"), of(test_scan.test_outputs_that_are_products_are_made_behind_the_loop)),
    ("a loop that starts from whatever lies there", edit("symgrad.schedule.scan:LoopGroup._initial", "places.copy(n, place)", "self.group"), of(test_scan_native.compare, *test_scan_native.cumulative("float32"))),
    ("the last value of a carry read at the wrong end", edit("symgrad.schedule.scan:LoopGroup._trail", "first, last = ends[::-1] if reverse else ends", "last, first = ends[::-1] if reverse else ends"), of(test_scan_native.test_reverse)),
    ("carries overwritten in turn", edit(f"{SCHEDULE}:Places._others_read", "p in self.fusion.needs(m)", "False"), of(test_scan_native.compare, *test_scan_native.exchange("float64"))),
    ("a part of a concatenation taken for nothing", edit(f"{SCHEDULE}:Writer._reindexed", "last < 0 or", "first < 0 or"), of(test_scan_bodies.test_bodies, "convolutions")),
    ("copies that nobody reads", edit("symgrad.schedule.recompute:rewritten", "new[r] if r in late else r", "r"), of(test_recompute.test_a_budget_is_kept, test_recompute.deep, test_recompute.X, 0.7)),
    ("copies made early", edit("symgrad.schedule.sequence:put_off", "if is_late(g):", "if False:"), of(test_recompute.test_a_budget_is_kept, test_recompute.deep, test_recompute.X, 0.7)),
    ("copies made with the values they repeat", edit("symgrad.schedule.groups:Fusion._epilogue", "if n in self.again:", "if False:"), of(test_recompute.test_a_budget_is_kept, test_recompute.deep, test_recompute.X, 0.7)),
    ("a cut that costs too much", edit("symgrad.schedule.flow:Network.cut", "if self.room[arc ^ 1] and", "if"), of(test_recompute.test_cuts_are_the_cheapest, 3)),
    ("taps of windows in lanes", edit("symgrad.schedule.reductions:_order", "if order[-1] in gone and", "if False and"), of(test_small_batches.test_windows_of_few_images_are_pooled_by_channels)),
    ("orders that end at parts of images", edit("symgrad.schedule.orders:_followed", "terms[0][0] if terms else None", "None"), of(test_small_batches.test_branches_side_by_side_lie_as_what_reads_them)),
    ("auxiliary heads that always answer", edit("symgrad.nn.models.inception:GoogLeNet.__call__", "if training and label in self.heads", "if label in self.heads"), of(test_large_models.test_a_head_that_is_not_used_is_in_no_graph)),
    ("parameters that come from nowhere of the user's", edit("symgrad.source:here", "_PASSED", "_PACKAGE"), of(test_large_models.test_parameters_come_from_the_line_that_calls_the_network)),
    ("a budget that nobody checks", edit("symgrad.schedule.budget:within", "size <= limit", "True"), of(test_recompute.test_a_budget_too_small_is_one_clear_error)),
    ("idle lanes counted", edit("codegen.counts:_Outline._block", "Poly.of(self.lanes) if s.live is None else s.live", "Poly.of(self.lanes)"), of(test_counts.test_idle_lanes_do_nothing_and_invariant_loads_are_done_once)),
    ("loads of a tile counted for each of its rows", edit("codegen.counts:_Outline._loop", "not shared and any", "any"), of(test_counts.test_a_tile_of_accumulators_shares_its_loads)),
    ("elements of two windows counted twice", edit("codegen.counts:_elements", "stride >= span", "True"), of(test_counts.test_windows_count_each_element_once)),
    ("a profile that trains", edit("symgrad.compile.profile:profile", "_copy(memory)", "memory"), of(test_profile.test_parameters_and_random_numbers_do_not_move)),
    # -- provenance
    ("what a kernel computes on the way forgotten", edit("symgrad.compile.carried:_walk", "stack.extend(n.args)", "pass"), of(test_provenance.test_every_value_has_a_kernel_and_every_kernel_a_value, test_provenance.mlp)),
    ("results of loops in no kernel", edit("symgrad.compile.carried:carried", "back.loops(own)", "pass"), of(test_provenance.test_every_value_has_a_kernel_and_every_kernel_a_value, test_provenance.lstm)),
    ("kernels of one name", edit("symgrad.compile.wording:Wording.kernel_names", "while name in used:", "while False:"), of(test_provenance.test_names_that_become_one_are_numbered)),
    ("what shared kernels compute in their first call only", edit("symgrad.compile.provenance:Provenance.maths", "own.update((s.text, s) for s in statements)", "own = own or found.update({self.names[c.entry.kernel]: {s.text: s for s in statements}})"), of(test_provenance.test_equal_kernels_are_one_with_all_its_calls)),
    ("comments in what is compiled", edit("symgrad.compile.pipeline:Pipeline.llvm", "self.schedule.program, self.plan", "self.provenance.program, self.plan"), of(test_provenance.test_names_change_nothing_that_is_compiled)),
    # -- calls, epochs, files
    ("a shuffle that repeats rows", text("codegen.entry:SHUFFLE", "store i64 %a, ptr %other.at", "store i64 %b, ptr %other.at"), of(epochs, test_batches.test_every_row_once, 100, 64)),
    ("the last batch dropped", text("codegen.entry:RUN", "or i1 %full, %dynamic", "and i1 %full, %dynamic"), of(epochs, test_batches.test_every_row_once, 100, 64)),
    ("batches of any size weigh the same", text("codegen.entry:RUN", "fmul double %t.value, %weight", "fmul double %t.value, 1.0"), of(epochs, test_batches.test_every_row_once, 100, 64)),
    ("gathered rows of the first batch only", text("codegen.entry:FEED", "getelementptr i64, ptr %order, i64 %from", "getelementptr i64, ptr %order, i64 0"), of(epochs, test_batches.test_every_row_once, 100, 64)),
    ("checksums not compared", edit("codegen.cache:_decode", "hashlib.sha256(body).digest() != digest", "False"), of(in_folder, test_cache.test_damage_is_noticed_and_removed, 1)),
    ("keys run together", edit("codegen.cache:key", 'digest.update(f"{type(part).__name__}:{len(data)}:".encode())', "pass"), of(test_cache.test_keys_separate_their_parts)),
    ("objects for another target", edit("symgrad.compile.saved:key", "pipeline.target,\n        pipeline.options,", ""), of(caching, test_cache_start.test_the_key_is_the_mathematics)),
    ("objects for smaller batches", edit("symgrad.compile.saved:key", "(dim.name, dim.max)", "dim.name"), of(caching, test_cache_start.test_the_key_knows_the_largest_sizes)),
    ("operands in any order", edit("symgrad.compile.saved:describe", "args = [number[id(a)] for a in node.args]", "args = sorted(number[id(a)] for a in node.args)"), of(caching, test_cache_start.test_positions_and_not_names_bind_parameters)),
    ("states of another shape loaded", edit("symgrad.state:load", "array.shape != p.shape", "False"), of(in_folder, test_state.test_bad_files_change_nothing)),
    ("a weight's value lost when it is placed", edit("symgrad.state:Store.place", "slot.write(plain)", "pass"), of(test_state.test_layouts_are_invisible, test_state.Layout((1, 0), 1))),
    ("all parameters start alike", edit("symgrad.state:generator", "{seed}:{name}", "{seed}"), of(test_state.test_initial_values_depend_on_seed_and_name_only)),
    # -- reading
    ("a factor of a chain not transposed", edit("symgrad.show.products:_chain", "forward = step.labels[0] == here", "forward = True"), of(test_show.test_text, "Wᵀ u")),
    ("a sum printed without its signs", edit("symgrad.show.text:_sum", "{'-' if negative else '+'}", "+"), of(test_show.test_text, "s - 2 t")),
    ("an element of a transpose in the wrong order", edit("symgrad.show.indices:at", "letters[::-1]", "letters"), of(test_show.test_text, "Σ_i (x_ji + 1)")),
    ("a scale that matters read as 1", edit("symgrad.rewrite.reading:unscaled", "plain if equivalent(general, plain) else e", "plain"), of(test_reading.test_a_scale_that_matters_stays)),
    ("the first contribution not recorded", edit(f"{DERIVE}.reverse:sweep", "record(node, cotangent, given)", "record(node, cotangent, given[1:])"), of(test_derivations.test_both_paths_of_weight_decay)),
]
# fmt: on

CORRUPTIONS = [Corruption(name, change, check, args) for name, change, (check, args) in TABLE]
