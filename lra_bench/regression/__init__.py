"""Whether a change made a model slower, hungrier or worse: evidence of two revisions, and its judgement."""
