"""One file per policy: each turns (graph, cluster) into device positions or times."""
