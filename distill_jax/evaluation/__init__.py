"""How good a student is: parameters and a split go in; metrics, rows of predictions and their tables come out.

`evaluator` decodes a split and scores it, `summary` adds what the rows tell, `significance` says how far the
figures can be trusted, `comparison` sets two files of predictions side by side. The trainer is handed an
`Evaluator`, and imports nothing from here.
"""
