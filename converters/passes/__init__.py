"""Graph passes: each file holds one, a function ``run(graph) -> dict`` of counts of what it did."""
