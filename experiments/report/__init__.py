"""`distill-jax report`: runs become one page, with every figure and table also as a file of its own.

In: folders of runs that were evaluated, files of results (a sweep's, the demo's), files of floors. Out:
`report.html`, which loads nothing, and beside it `figures/` (PNG, SVG, CSV) and `tables/` (Markdown, LaTeX,
CSV).
"""
