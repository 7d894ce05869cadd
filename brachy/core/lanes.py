"""LLVM code that interpolates sixteen cells of a table at once; numba does not find this vector form itself."""

# numba infers the types
# mypy: allow-untyped-defs, allow-untyped-calls

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

WIDTH = 16
"""Places that one call looks up: one register with AVX-512, two with AVX2."""


@intrinsic
def add_cells_at(typing, values, first, cell, along, across, weight, value, q):
    """value += weight x the table, bilinear in `along` and `across`, at the WIDTH places from index q on.

    The four coefficients of a place's cell are neighbours in `values`, from index `first + cell` on. They are loaded
    as one vector; four such vectors side by side make one register, and four such registers are transposed, so that
    each coefficient of the sixteen places is in one register. Loading the coefficients one by one takes two and a half
    times as long (measured).
    """

    def generate(context, builder, signature, arguments):
        fast = {"flags": ("fast",)}
        four, wide = (ir.VectorType(ir.FloatType(), n) for n in (4, WIDTH))
        values, first, cell, along, across, weight, value, q = (
            context.make_array(kind)(context, builder, argument).data
            if isinstance(kind, types.Array)
            else argument
            for kind, argument in zip(signature.args, arguments, strict=True)
        )

        def mix(a, b, order):
            return builder.shuffle_vector(
                a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order))
            )

        def at(array):
            return builder.bitcast(builder.gep(array, [q]), wide.as_pointer())

        def plus(a, b, part):
            return builder.fadd(a, builder.fmul(b, part, **fast), **fast)

        start = builder.gep(values, [first])
        loaded = []
        for n in range(WIDTH):
            index = builder.load(builder.gep(cell, [builder.add(q, ir.Constant(q.type, n))]))
            place = builder.gep(start, [builder.zext(index, ir.IntType(64))])
            loaded.append(builder.load(builder.bitcast(place, four.as_pointer()), align=4))
        # register k: the cells of the places k, 4 + k, 8 + k, 12 + k
        rows = []
        for k in range(4):
            left, right = (mix(loaded[k + h], loaded[k + h + 4], range(8)) for h in (0, 8))
            rows.append(mix(left, right, range(16)))
        # the usual transposition of 4 x 4, in each quarter of the registers
        low, high = ([part + 4 * g for g in range(4) for part in (a, 16 + a, a + 1, 17 + a)] for a in (0, 2))
        first_half, second_half = (
            [part + 4 * g for g in range(4) for part in (a, a + 1, 16 + a, 17 + a)] for a in (0, 2)
        )
        pairs = [(mix(rows[n], rows[n + 1], low), mix(rows[n], rows[n + 1], high)) for n in (0, 2)]
        c0, c1 = (mix(pairs[0][0], pairs[1][0], order) for order in (first_half, second_half))
        c2, c3 = (mix(pairs[0][1], pairs[1][1], order) for order in (first_half, second_half))
        u, v, total = (builder.load(at(array), align=4) for array in (along, across, value))
        lane = builder.insert_element(ir.Constant(wide, ir.Undefined), weight, ir.Constant(ir.IntType(32), 0))
        w = mix(lane, lane, [0] * WIDTH)
        found = plus(plus(c0, c1, u), plus(c2, c3, u), v)
        builder.store(plus(total, found, w), at(value), align=4)
        return context.get_dummy_value()

    return types.void(values, first, cell, along, across, weight, value, q), generate
