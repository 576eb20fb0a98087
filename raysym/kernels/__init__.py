"""Generated kernels for the CPU: LLVM IR, specialised per shape, vectorised, cached on disk.

`link` turns the programs of one worker into flat lists of calls over a planned arena. Everything
here needs the optional package llvmlite; nothing outside this folder does.
"""
