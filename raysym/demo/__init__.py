"""The demo: a small convolutional network learns handwritten digits on several workers.

`digits` loads the data, `network` composes the graph, `training` is the loop over an Executor,
`plan_text` shortens plans, `report` says it all in a terminal, `run` ties them together.
"""

from raysym.demo.run import Options, run

__all__ = ["Options", "run"]
