"""Generated kernels for the CPU: LLVM IR, specialised per shape, vectorised, cached on disk.

`link` turns the programs of one worker into flat lists of calls over a planned arena. Products,
convolutions and what else repays it are written by hand (the files that enter a `lowering`); other
pages are traced (`pages.py`), and what cannot be followed runs its reference kernel: COVERAGE.md
lists all. Everything here needs the optional package llvmlite; nothing outside this folder does.
"""
