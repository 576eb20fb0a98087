"""Generated kernels for the CPU: LLVM IR, specialised per shape, vectorised, cached on disk.

`link` turns the programs of one worker into flat lists of calls over a planned arena; README.md
has the map of this folder, COVERAGE.md what runs for each op. Everything here but the cache needs
the optional package llvmlite; nothing outside this folder does.
"""
