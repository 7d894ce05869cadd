"""LLVM code that interpolates four cells of a table at once; numba's compiler does not find this vector form itself."""

# numba infers the types
# mypy: allow-untyped-defs, allow-untyped-calls

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def add_four_cells(typing, values, cell, along, across, factor, value, q):
    """value += factor x the table, linear in `along` and `across`, at the four places from index q on.

    The four corners of a place's cell are neighbours in `values`, from index `cell` on. They are loaded as one vector,
    and the vectors of four places are transposed, so that each corner of the four places is in one register. Loading
    the corners one by one takes two and a half times as long (measured).
    """

    def generate(context, builder, signature, arguments):
        four, fast = ir.VectorType(ir.FloatType(), 4), {"flags": ("fast",)}
        kinds = signature.args[:6]
        data = [
            context.make_array(kind)(context, builder, a).data
            for kind, a in zip(kinds, arguments, strict=False)
        ]

        def place(array, index):
            return builder.bitcast(builder.gep(array, [index]), four.as_pointer())

        def mix(a, b, *order):
            return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), 4), list(order)))

        def between(a, b, part):
            return builder.fadd(a, builder.fmul(builder.fsub(b, a, **fast), part, **fast), **fast)

        first = arguments[6]
        corners = []
        for n in range(4):
            index = builder.load(builder.gep(data[1], [builder.add(first, ir.Constant(first.type, n))]))
            corners.append(builder.load(place(data[0], builder.zext(index, ir.IntType(64))), align=4))
        near = [mix(*corners[n : n + 2], 0, 4, 1, 5) for n in (0, 2)]
        next_row = [mix(*corners[n : n + 2], 2, 6, 3, 7) for n in (0, 2)]
        u, v, w, total = (builder.load(place(array, first), align=4) for array in data[2:])
        a = between(mix(*near, 0, 1, 4, 5), mix(*next_row, 0, 1, 4, 5), u)
        b = between(mix(*near, 2, 3, 6, 7), mix(*next_row, 2, 3, 6, 7), u)
        total = builder.fadd(total, builder.fmul(between(a, b, v), w, **fast), **fast)
        builder.store(total, place(data[5], first), align=4)
        return context.get_dummy_value()

    return types.void(values, cell, along, across, factor, value, q), generate
