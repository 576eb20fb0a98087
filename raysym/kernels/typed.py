"""Vectors of any dtype in memory: loads and stores, contiguous or strided, and conversions.

In registers float16 is float32, bool a mask, and integers below 64 bits are 32-bit ones.
"""

from __future__ import annotations

from typing import Any

from raysym.kernels.emit import F32, F64, I1, I32, I64, LANES, PTR, VOID, Emit, Index, Value
from raysym.kernels.llvm import ir
from raysym.passes.memory import ALIGNMENT

HALF = ir.HalfType()
_MEMORY = {
    "float16": HALF, "float32": F32, "float64": F64, "int64": I64, "int32": I32,
    "int8": ir.IntType(8), "uint8": ir.IntType(8), "bool": ir.IntType(8),
}  # fmt: skip
_SUFFIX = {HALF: "f16", F32: "f32", F64: "f64", I64: "i64", I32: "i32", ir.IntType(8): "i8"}
_REGISTER = {
    "float16": F32, "float32": F32, "float64": F64, "int64": I64, "int32": I32, "int8": I32,
    "uint8": I32, "bool": I1,
}  # fmt: skip
DTYPES = frozenset(_MEMORY)
NBYTES = {"float16": 2, "float32": 4, "float64": 8, "int64": 8, "int32": 4, "int8": 1, "uint8": 1,
          "bool": 1}  # fmt: skip


def vector_of(kind: Any) -> Any:
    """The vector type of an element type."""
    return ir.VectorType(kind, LANES)


def register_type(dtype: str) -> Any:
    """The vector type in which values of a dtype are computed."""
    return vector_of(_REGISTER[dtype])


def intrinsic(e: Emit, name: str, *args: Value) -> Value:
    """Call an intrinsic of vectors of one floating type that gives the same type."""
    kind = args[0].type
    return e.call(f"llvm.{name}.v{LANES}{_SUFFIX[kind.element]}", kind, args)


def root(e: Emit, x: Value) -> Value:
    """The square root, correctly rounded."""
    return intrinsic(e, "sqrt", x)


def constant(e: Emit, kind: Any, value: Any) -> Value:
    """A vector of one number."""
    if kind.element == F32:
        return e.number(float(value))
    made = float(value) if kind.element == F64 else int(value)
    return ir.Constant(kind, [made] * LANES)


def like(e: Emit, x: Value, value: Any) -> Value:
    """A vector of one number in the type of another."""
    return constant(e, x.type, value)


# ----- memory


def constants_of(e: Emit, numbers: bytes) -> Value:
    """The address of bytes that are part of the kernel."""
    kind = ir.ArrayType(ir.IntType(8), len(numbers))
    made = ir.GlobalVariable(e.module, kind, f"table{len(e.module.globals)}")
    made.initializer, made.align = ir.Constant(kind, bytearray(numbers)), ALIGNMENT
    made.global_constant, made.linkage = True, "private"
    return e.b.inttoptr(e.b.ptrtoint(made, I64), PTR)  # without the array's type


def place(e: Emit, pointer: Value, offset: Index, dtype: str) -> Value:
    """The address of an element."""
    if isinstance(offset, int) and not offset:
        return pointer
    return e.b.gep(pointer, [e.const(offset)], source_etype=_MEMORY[dtype])


def load(e: Emit, dtype: str, pointer: Value, offset: Index, stride: int, lanes: int) -> Value:
    """A vector of elements `stride` apart, as it is computed with; 0 in lanes that are not read."""
    kind = _MEMORY[dtype]
    if stride == 0:
        one = e.b.load(place(e, pointer, offset, dtype), typ=kind, align=NBYTES[dtype])
        return _decoded(e, dtype, splat(e, one))
    vector = vector_of(kind)
    if stride == 1 and lanes == LANES:
        at = place(e, pointer, offset, dtype)
        return _decoded(e, dtype, e.b.load(at, typ=vector, align=NBYTES[dtype]))
    if stride == 1:
        return _decoded(e, dtype, _masked(e, dtype, pointer, offset, lanes))
    if lanes == 1:
        one = e.b.load(place(e, pointer, offset, dtype), typ=kind, align=NBYTES[dtype])
        nothing = ir.Constant(vector, None)
        return _decoded(e, dtype, e.b.insert_element(nothing, one, ir.Constant(I32, 0)))
    name = f"llvm.masked.gather.v{LANES}{_SUFFIX[kind]}.v{LANES}p0"
    places = _places(e, pointer, offset, stride, dtype)
    return _decoded(e, dtype, e.call(name, vector, [places, *_mask(dtype, lanes), _zero(vector)]))


def load1(e: Emit, dtype: str, pointer: Value, offset: Index) -> Value:
    """One element, as float64 or as an integer of 64 bits."""
    kind = _MEMORY[dtype]
    one = e.b.load(place(e, pointer, offset, dtype), typ=kind, align=NBYTES[dtype])
    if kind in (F64, I64):
        return one
    return e.b.fpext(one, F64) if dtype.startswith("float") else e.b.sext(one, I64)


def load_at(e: Emit, dtype: str, pointer: Value, offsets: Value, lanes: int) -> Value:
    """A vector of elements at places of their own, a vector of 64-bit offsets."""
    kind = _MEMORY[dtype]
    vector = vector_of(kind)
    size = ir.Constant(vector_of(I64), [NBYTES[dtype]] * LANES)
    base = splat(e, e.b.ptrtoint(pointer, I64))
    places = e.b.inttoptr(e.b.add(base, e.b.mul(offsets, size)), ir.VectorType(PTR, LANES))
    name = f"llvm.masked.gather.v{LANES}{_SUFFIX[kind]}.v{LANES}p0"
    return _decoded(e, dtype, e.call(name, vector, [places, *_mask(dtype, lanes), _zero(vector)]))


def store(
    e: Emit, dtype: str, value: Value, pointer: Value, offset: Index, stride: int, lanes: int
) -> None:
    """Write a vector to elements `stride` apart."""
    made, suffix = _encoded(e, dtype, value), _SUFFIX[_MEMORY[dtype]]
    at = place(e, pointer, offset, dtype)
    if stride == 1 and lanes == LANES:
        e.b.store(made, at, align=NBYTES[dtype])
    elif lanes == 1:
        e.b.store(e.b.extract_element(made, ir.Constant(I32, 0)), at, align=NBYTES[dtype])
    elif stride == 1:
        align, mask = _mask(dtype, lanes)
        e.call(f"llvm.masked.store.v{LANES}{suffix}.p0", VOID, [made, at, align, mask])
    else:
        places = _places(e, pointer, offset, stride, dtype)
        args = [made, places, *_mask(dtype, lanes)]
        e.call(f"llvm.masked.scatter.v{LANES}{suffix}.v{LANES}p0", VOID, args)


def store_past(e: Emit, dtype: str, value: Value, pointer: Value, offset: Index) -> None:
    """Write a full vector past the caches; its address is a multiple of its size or of a line."""
    at = place(e, pointer, offset, dtype)
    made = e.b.store(_encoded(e, dtype, value), at, align=min(ALIGNMENT, LANES * NBYTES[dtype]))
    made.set_metadata("nontemporal", e.module.add_metadata([ir.Constant(I32, 1)]))


def _masked(e: Emit, dtype: str, pointer: Value, offset: Index, lanes: int) -> Value:
    kind = _MEMORY[dtype]
    vector = vector_of(kind)
    args = [place(e, pointer, offset, dtype), *_mask(dtype, lanes), _zero(vector)]
    return e.call(f"llvm.masked.load.v{LANES}{_SUFFIX[kind]}.p0", vector, args)


def _mask(dtype: str, lanes: int) -> list[Value]:
    """Alignment and mask of the first lanes, as masked intrinsics take them."""
    mask = ir.Constant(vector_of(I1), [lane < lanes for lane in range(LANES)])
    return [ir.Constant(I32, NBYTES[dtype]), mask]


def _zero(vector: Any) -> Value:
    return ir.Constant(vector, None)


def splat(e: Emit, one: Value) -> Value:
    """A vector of one value."""
    nothing = ir.Constant(vector_of(one.type), ir.Undefined)
    first = e.b.insert_element(nothing, one, ir.Constant(I32, 0))
    return e.b.shuffle_vector(first, nothing, e.integer(0))


def _places(e: Emit, pointer: Value, offset: Index, stride: int, dtype: str) -> Value:
    base = splat(e, e.b.ptrtoint(place(e, pointer, offset, dtype), I64))
    steps = [NBYTES[dtype] * stride * lane for lane in range(LANES)]
    places = e.b.add(base, ir.Constant(vector_of(I64), steps))
    return e.b.inttoptr(places, ir.VectorType(PTR, LANES))


def _decoded(e: Emit, dtype: str, value: Value) -> Value:
    """What was read, in the type that is computed with."""
    kind = register_type(dtype)
    match dtype:
        case "float16":
            return e.b.fpext(value, kind)
        case "bool":
            return e.b.icmp_unsigned("!=", value, _zero(value.type))
        case "int8":
            return e.b.sext(value, kind)
        case "uint8":
            return e.b.zext(value, kind)
    return value


def _encoded(e: Emit, dtype: str, value: Value) -> Value:
    kind = vector_of(_MEMORY[dtype])
    match dtype:
        case "float16":
            return e.b.fptrunc(value, kind)
        case "bool":
            return e.b.zext(value, kind)
        case "int8" | "uint8":
            return e.b.trunc(value, kind)
    return value


# ----- conversions


def convert(e: Emit, value: Value, source: str, target: str) -> Value:
    """A value of one dtype as another, as C casts it; float16 is rounded but stays float32."""
    if target == "float16":
        return half(e, convert(e, value, source, "float32"))
    if target in ("int8", "uint8") and source not in (target, "bool"):
        return _decoded(e, target, _encoded(e, target, convert(e, value, source, "int32")))
    kind, b = register_type(target), e.b
    if source == "bool" and target != "bool":
        return b.select(value, constant(e, kind, 1), constant(e, kind, 0))
    if target == "bool":
        return _truth(e, value)
    if source.startswith("float"):
        return _of_float(e, value, target)
    if target.startswith("float"):
        return b.sitofp(value, kind)
    return _resized(e, value, kind)


def half(e: Emit, value: Value) -> Value:
    """float32 rounded to float16."""
    return e.b.fpext(e.b.fptrunc(value, vector_of(HALF)), value.type)


def _truth(e: Emit, value: Value) -> Value:
    if value.type.element in (F32, F64):
        return e.b.fcmp_unordered("!=", value, like(e, value, 0))
    return e.b.icmp_signed("!=", value, like(e, value, 0))


def _of_float(e: Emit, value: Value, target: str) -> Value:
    kind, b = register_type(target), e.b
    if kind.element == value.type.element:
        return value
    if kind.element == F64:
        return b.fpext(value, kind)
    if kind.element == F32:
        return b.fptrunc(value, kind)
    # What does not fit, NaN included, becomes the smallest integer, as x86 has it.
    edge = 2.0 ** (kind.element.width - 1)
    fits = b.and_(
        b.fcmp_ordered(">=", value, like(e, value, -edge)),
        b.fcmp_ordered("<", value, like(e, value, edge)),
    )
    return b.select(
        fits,
        b.fptosi(b.select(fits, value, like(e, value, 0)), kind),
        constant(e, kind, -int(edge)),
    )


def _resized(e: Emit, value: Value, kind: Any) -> Value:
    if kind.element.width > value.type.element.width:
        return e.b.sext(value, kind)
    return e.b.trunc(value, kind) if kind.element.width < value.type.element.width else value
