"""Whether two mathematical answers are equal: parsing without `eval`, comparison in bounded tiers.

`parser.parse_expression` reads one expression in LaTeX, plain, Unicode, sympy-like or
Mathematica-like notation; `expressions.same_expression` compares two. `compare.compare` decides
about whole answers (sets, intervals, units, words). Nothing here depends on the verifier classes.
"""
