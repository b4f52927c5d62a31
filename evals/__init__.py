"""Evaluation: sample, grade, measure with intervals, compare, report.

metrics     pass@k and its relatives for one task: pure functions
intervals   confidence intervals over tasks
summary     the numbers of a whole evaluation
runner      evaluate a sampler, or grade saved completions; resumes
compare     two evaluations of the same tasks, paired
report      one self-contained HTML page
"""
