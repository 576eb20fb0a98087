"""The one door to llvmlite: the host's target machine, machine code of a module, its address."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import llvmlite.binding as binding
import llvmlite.ir as ir

ENTRY = "kernel"  # the name of every kernel's only function: void kernel(ptr args)

LEVEL = 2  # of LLVM's code generator, as compilers count them

_alive: list[Any] = []  # engines own the machine code; addresses are valid as long as they live


@lru_cache(maxsize=1)
def machine() -> Any:
    """The target machine of this host, with all of its vector instructions."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    features = binding.get_host_cpu_features().flatten()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=features, opt=LEVEL
    )


@lru_cache(maxsize=1)
def host() -> str:
    """What machine code depends on besides the IR: processor, features, system, LLVM, its level."""
    version = ".".join(map(str, binding.llvm_version_info))
    features = binding.get_host_cpu_features().flatten()
    system = binding.get_default_triple()
    return f"{binding.get_host_cpu_name()} {features} {system} llvm {version} O{LEVEL}"


@lru_cache(maxsize=8)
def other_machine(triple: str, cpu: str) -> Any:
    """The target machine of another host, as LLVM names it: to see that kernels compile there."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=LEVEL)


@lru_cache(maxsize=1)
def has_half() -> bool:
    """True when the host converts between float16 and float32 itself; others need a library."""
    features = binding.get_host_cpu_features()
    return bool(features.get("f16c")) or machine().triple.startswith(("aarch64", "arm64"))


def assemble(text: str, target: Any = None) -> bytes:
    """Machine code of a module given as IR text, for this host unless another is given."""
    target = target or machine()  # before parsing: it initialises LLVM
    module = binding.parse_assembly(text)
    module.triple = target.triple
    module.verify()
    code: bytes = target.emit_object(module)
    return code


def load(code: bytes) -> int:
    """The address of the kernel in machine code that `assemble` made on such a host."""
    return addresses(code, ENTRY)[0]


def addresses(code: bytes, *names: str) -> list[int]:
    """Where functions of machine code lie."""
    empty = binding.parse_assembly(f'target triple = "{machine().triple}"')
    engine = binding.create_mcjit_compiler(empty, machine())
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _alive.append(engine)
    return [engine.get_function_address(name) for name in names]


__all__ = [
    "ENTRY", "addresses", "assemble", "has_half", "host", "ir", "load", "machine",
    "other_machine",
]  # fmt: skip
