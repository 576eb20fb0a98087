"""Passes: functions from graphs to graphs or to facts about them.

Ops that run graphs use some of them on their bodies, but lie below: they are told here.
"""

from raysym.ops.subgraphs import Passes, use_passes
from raysym.passes.gradient import differentiate
from raysym.passes.infer import infer_dtypes, infer_shapes
from raysym.passes.inference import for_inference

use_passes(Passes(differentiate, infer_shapes, infer_dtypes, for_inference))
