"""Numbers that others published, each row with its source; installed as lra_bench.published."""
