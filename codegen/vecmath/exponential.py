"""exp, expm1, sinh, cosh, tanh and erf.

Reduction: x = n log 2 + r, e^x = 2^n e^r. exp takes n even, so that 2^n is the square of a normal
power of two over the whole range: multiplying by it twice rounds once, at the end, also where the
result is denormal or overflows. |r| is then below log 2 instead of half of it, which costs one
degree and saves every test.

Polynomials are Remez fits by tests/codegen/fit.py unless a source is given.
"""

from __future__ import annotations

from codegen.vecmath.kit import Kit, V, where

LOG2_E = 1.4426950408889634
# log 2 in two parts; n * LN2_HIGH is exact. float32: SLEEF (L2Uf, L2Lf); float64: fdlibm e_exp.c
LN2 = {
    "float32": (0.693145751953125, 1.428606765330187045e-06),
    "float64": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}

# (e^r - 1 - r) / r^2 for |r| <= log 2; error 2^-26 and 2^-56.4 of e^r
EXP = {
    "float32": (
        0.00019673055392015852584,
        0.0014108031354966960804,
        0.0083357644532304914032,
        0.041661079039021744259,
        0.16666618049975457724,
        0.50000036689072476545,
    ),
    "float64": (
        1.5987924810837629755e-10,
        2.1065389826878184281e-9,
        2.5054350607141672446e-8,
        2.755611882298131607e-7,
        2.7557303929852822035e-6,
        0.000024801591014289010827,
        0.0001984126988573400653,
        0.0013888888883191684986,
        0.0083333333332763746646,
        0.041666666666705494396,
        0.16666666666666918376,
        0.49999999999999918705,
    ),
}
# (e^r - 1 - r - r^2/2) / r^3 for |r| <= log(2) / 2; error 2^-31 and 2^-61 of e^r - 1
EXPM1 = {
    "float32": (
        0.00019852524605712765048,
        0.0013933749476700823521,
        0.0083333846109175713231,
        0.041666478496380486663,
        0.16666666380140832189,
    ),
    "float64": (
        2.0909388510244507323e-9,
        2.5109420055635883998e-8,
        2.7557299896292990523e-7,
        2.7557243303576712883e-6,
        0.000024801587285263558444,
        0.0001984126988679791839,
        0.00138888888889074717,
        0.0083333333333214776007,
        0.041666666666666624636,
        0.16666666666666676578,
    ),
}
# below the first exp is 0, above the second it overflows
EXP_RANGE = {"float32": (-104.0, 88.75), "float64": (-745.2, 709.8)}


def exp_parts(kit: Kit, x: V, low: V | None = None) -> tuple[V, V]:
    """p and s with e^(x + low) = p s s, for x in a little more than EXP_RANGE."""
    high_part, low_part = LN2[kit.dtype]
    n, bits = kit.nearest_product(x, LOG2_E / 2)
    r = kit.fma(n, -2 * high_part, x)
    if low is not None:
        r = r + low
    r = kit.fma(n, -2 * low_part, r)
    return kit.poly(r, EXP[kit.dtype] + (1.0, 1.0)), kit.power_of_two(bits)


def exp(kit: Kit, x: V) -> V:
    low, high = EXP_RANGE[kit.dtype]
    p, s = exp_parts(kit, kit.at_least(kit.at_most(x, high), low))
    return p * s * s


def expm1_times(kit: Kit, x: V, factor: float, bounded: bool = False) -> V:
    """(e^x - 1) * factor, a power of two, for x up to the overflow of e^x * factor * 2; about
    x * factor where x is small. `bounded` says that x is above -40."""
    high_part, low_part = LN2[kit.dtype]
    x = x if bounded else kit.at_least(x, -40.0)
    n, bits = kit.nearest_product(x, LOG2_E)
    r = kit.fma(n, -high_part, x)
    r = kit.fma(n, -low_part, r)
    square = r * r
    q = kit.fma(square, kit.fma(r, kit.poly(r, EXPM1[kit.dtype]), 0.5), r)
    power = kit.power_of_two(bits, factor)  # 2^n factor
    return kit.fma(power, q, power - factor)


def _small(kit: Kit, x: V) -> V:
    """Where x itself is the nearest number to expm1(x), sinh(x), log1p(x) ..., -0 and denormals
    included."""
    return abs(x) < kit.epsilon / 2


def expm1(kit: Kit, x: V) -> V:
    y = expm1_times(kit, kit.at_most(x, EXP_RANGE[kit.dtype][1]), 0.5) * 2
    return where(_small(kit, x), x, y)


def cosh(kit: Kit, x: V) -> V:
    _, high = EXP_RANGE[kit.dtype]
    p, s = exp_parts(kit, kit.at_most(abs(x), high + 1))
    half = p * s * (s * 0.5)
    return half + 0.25 / half


def sinh(kit: Kit, x: V) -> V:
    size = abs(x)
    bound = kit.at_most(size, EXP_RANGE[kit.dtype][1] + 1)
    half = expm1_times(kit, bound, 0.25, bounded=True) * 2
    y = half * (1.0 / (half * 2 + 1) + 1)  # infinity stays
    return where(_small(kit, x), x, kit.with_sign(y, kit.sign_of(x)))


def tanh(kit: Kit, x: V) -> V:
    size = abs(x)
    bound = kit.at_most(size + size, 40.0)
    half = expm1_times(kit, bound, 0.5, bounded=True)  # exact where x is small
    return kit.with_sign(half / (half + 1), kit.sign_of(x))


# -- erf -----------------------------------------------------------------------------------------

# float32: N. Juffa's erff (max 1 ULP), https://stackoverflow.com/questions/35148198
# erf(x) = x + x P(x^2) up to the border; beyond, 1 - exp(t P(t)), t = |x|
ERF_BORDER = {"float32": 0.927734375, "float64": 1.0}
ERF_SMALL = {
    "float32": (
        -5.96761703e-4,
        4.99119423e-3,
        -2.67681349e-2,
        1.12819925e-1,
        -3.76125336e-1,
        1.28379166e-1,
    ),
    "float64": (
        5.9452626407511905502e-11,
        -1.136566662456596495e-9,
        1.4657880051993179334e-8,
        -1.6350025260055019307e-7,
        1.6460972821184664747e-6,
        -0.000014925593507190661618,
        0.00012055331036913794419,
        -0.00085483269787426324607,
        0.0052239776247808745862,
        -0.026866170645072895702,
        0.11283791670954857496,
        -0.37612638903183747604,
        0.12837916709551257375,
    ),
}
# log(erfc(t)) / t + 1
ERF_LARGE = {
    "float32": (
        -1.72853470e-5,
        3.83197126e-4,
        -3.88396438e-3,
        2.42546219e-2,
        -1.06777877e-1,
        -6.34846687e-1,
        -1.28717512e-1,
    ),
    "float64": (
        4.1706765801327521781e-15,
        -1.888377527128812567e-13,
        3.7860296196879569631e-12,
        -4.2205338079854172823e-11,
        2.4158908238972616879e-10,
        2.1922458740600481044e-10,
        -1.8548663511768993473e-8,
        2.0070010443200424739e-7,
        -1.3545492096630272677e-6,
        6.6316973246094432102e-6,
        -0.000024416565772601133368,
        0.000066147549677448603481,
        -0.00011506972688372772875,
        0.000030741139875940959018,
        0.00053923275885252755478,
        -0.0016599374289331924028,
        0.00018915474350531021579,
        0.0191367256810349469,
        -0.10277500916970069478,
        -0.63661933384222030045,
        -0.12837920479444946696,
    ),
}


def erf(kit: Kit, x: V) -> V:
    small = kit.fma(kit.poly(x * x, ERF_SMALL[kit.dtype]), x, x)
    t = kit.at_most(abs(x), 4.0 if kit.single else 6.0)  # erf is 1 from there
    p, s = exp_parts(kit, kit.fma(kit.poly(t, ERF_LARGE[kit.dtype]), t, -t))
    large = 1.0 - p * s * s
    return where(abs(x) < ERF_BORDER[kit.dtype], small, kit.with_sign(large, kit.sign_of(x)))
