"""Field types of messages in the notation of SPEC.md."""

import json

import msgspec
from msgspec import inspect

from fetchd.protocol.codec import MAX_INT


def fields(kind: type[msgspec.Struct]) -> list[tuple[str, str, str]]:
    """(name, type, default) of every field, as the tables of SPEC.md have them."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return [(field.encode_name, render(field.type), _default(field)) for field in info.fields]


def render(kind: inspect.Type) -> str:
    """`str (1–64)`, `[NewJob] (1–1000)`, `int or null`."""
    match kind:
        case inspect.UnionType(types=parts):
            names = [render(part) for part in parts if not isinstance(part, inspect.NoneType)]
            return " or ".join([*names, "null"] if kind.includes_none else names)
        case inspect.StrType():
            return "str" + _limits(kind.min_length, kind.max_length)
        case inspect.IntType():
            return "int" + _limits(kind.ge, kind.le)
        case inspect.FloatType():
            return "float" + (_above(kind.gt, kind.le) if kind.gt is not None else _limits(kind.ge, kind.le))
        case inspect.ListType():
            return f"[{render(kind.item_type)}]" + _limits(kind.min_length, kind.max_length)
        case inspect.TupleType():
            return f"[{', '.join(render(item) for item in kind.item_types)}]"
        case inspect.DictType():
            inner = f"{{{render(kind.key_type)}: {render(kind.value_type)}}}"
            return inner + _limits(kind.min_length, kind.max_length)
        case inspect.StructType(cls=cls):
            return f"`{cls.__name__}`"
        case inspect.EnumType(cls=cls):
            return cls.__name__.lower()
        case inspect.LiteralType(values=values):
            return " or ".join(f"`{value}`" for value in values)
        case inspect.BoolType():
            return "bool"
        case inspect.CustomType(cls=cls) if cls is object:
            return "object"
    raise NotImplementedError(kind)


def _above(low: float, high: float | None) -> str:
    return f" (> {low:g}, ≤ {high:.10g})" if high is not None else f" (> {low:g})"


def _limits(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f" (≥ {low:g})"
    text = "2^53 − 1" if high == MAX_INT else f"{high:g}"
    return f" ({low:g} to {text})" if low is not None else f" (≤ {text})"


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    factory = field.default_factory
    value = factory() if factory is not msgspec.NODEFAULT else field.default
    return json.dumps(msgspec.to_builtins(value))
