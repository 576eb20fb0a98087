"""A stand-in for CuPy on machines without a GPU: arrays that refuse to mix with host arrays.

It computes with numpy. Like CuPy it has no implicit way back to the host (`__array__` raises), and
host arrays go in through `array`, `asarray` and `set` only. What makes the host wait is counted.
"""

import contextlib
import inspect
import operator
from types import SimpleNamespace

import numpy as np


def inside(value):
    """The numpy array within; TypeError for a host array that strayed in."""
    if isinstance(value, DeviceArray):
        return value.host
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("unsupported type <class 'numpy.ndarray'>")
    if isinstance(value, list | tuple):
        return type(value)(inside(part) for part in value)
    return value


def wrapped(made, base=None):
    if isinstance(made, np.ndarray | np.generic):
        return DeviceArray(np.asarray(made), base)
    if isinstance(made, list | tuple):
        return [wrapped(part) for part in made]
    return made


def owner_of(array):
    return array if array.base is None else array.base


def shared(made, host):
    return isinstance(made, np.ndarray) and np.may_share_memory(made, host)


class DeviceArray:
    """An array on the pretended device."""

    syncs = 0  # how often somebody waited for the device
    __array_priority__ = 100
    __hash__ = None

    def __init__(self, host, base=None):
        self.host, self.base = host, base
        self.shape, self.dtype, self.ndim = host.shape, host.dtype, host.ndim
        self.size, self.nbytes = host.size, host.nbytes
        self.flags = SimpleNamespace(c_contiguous=host.flags.c_contiguous)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use .get()")

    def get(self, out=None):
        if out is None:
            return self.host.copy()
        out[...] = self.host
        return out

    def set(self, content):
        assert isinstance(content, np.ndarray)
        self.host[...] = content

    def __getitem__(self, key):
        made = self.host[inside(key)]
        return wrapped(made, owner_of(self) if shared(made, self.host) else None)

    def __setitem__(self, key, value):
        self.host[inside(key)] = inside(value)

    def __len__(self):
        return len(self.host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def tolist(self):
        DeviceArray.syncs += 1  # the host waits for the device
        return self.host.tolist()

    def item(self):
        return DeviceArray.tolist(self.ravel())[0]

    def __bool__(self):
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        return operator.index(self.item())

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)  # __array_interface__ would be a way back to the host
        method = getattr(self.host, name)

        def call(*args, **kwargs):
            made = method(*inside(args), **{key: inside(value) for key, value in kwargs.items()})
            return wrapped(made, owner_of(self) if shared(made, self.host) else None)

        return call if callable(method) else wrapped(method, owner_of(self))


def _operator(name, reflected=False):
    compute = getattr(operator, name)
    if reflected:
        return lambda self, other: wrapped(compute(inside(other), self.host))
    return lambda self, *other: wrapped(compute(self.host, *inside(other)))


def _in_place(name):
    compute = getattr(operator, name)

    def change(self, other):
        compute(self.host, inside(other))
        return self

    return change


for _name in ("add", "sub", "mul", "truediv", "floordiv", "pow", "mod", "matmul"):
    setattr(DeviceArray, f"__{_name}__", _operator(_name))
    setattr(DeviceArray, f"__i{_name}__", _in_place(f"i{_name}"))
    setattr(DeviceArray, f"__r{_name}__", _operator(_name, reflected=True))
for _name in ("and_", "or_", "xor", "lshift", "rshift"):
    setattr(DeviceArray, f"__{_name.strip('_')}__", _operator(_name))
    setattr(DeviceArray, f"__i{_name.strip('_')}__", _in_place(f"i{_name.strip('_')}"))
    setattr(DeviceArray, f"__r{_name.strip('_')}__", _operator(_name, reflected=True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge", "neg", "pos", "abs", "invert"):
    setattr(DeviceArray, f"__{_name}__", _operator(_name))


class PinnedMemory(bytearray):
    """Page-locked memory of the host, in pretence."""


class Proxy:
    """A function or module of numpy on device arrays."""

    def __init__(self, found):
        self._found = found

    def __call__(self, *args, **kwargs):
        named = {key: inside(value) for key, value in kwargs.items()}
        made = self._found(*inside(args), **named)
        shares = [a for a in args if isinstance(a, DeviceArray) and shared(made, a.host)]
        return wrapped(made, owner_of(shares[0]) if shares else None)

    def __getattr__(self, name):
        found = getattr(self._found, name)
        if isinstance(found, type) or not (callable(found) or inspect.ismodule(found)):
            return found
        return Proxy(found)


class StandIn(Proxy):
    """The module itself."""

    ndarray = DeviceArray
    cuda = SimpleNamespace(
        Device=lambda number: contextlib.nullcontext(),
        alloc_pinned_memory=lambda nbytes: PinnedMemory(bytes(nbytes)),
    )

    def __init__(self):
        super().__init__(np)

    def array(self, source, dtype=None, copy=True, order="K"):
        host = source.host if isinstance(source, DeviceArray) else source
        return DeviceArray(np.array(host, dtype, copy=copy, order=order))

    def asarray(self, source, dtype=None):
        if isinstance(source, DeviceArray) and dtype in (None, source.dtype):
            return source
        return self.array(source, dtype)

    def ascontiguousarray(self, source):
        return source if source.flags.c_contiguous else self.array(source, order="C")
