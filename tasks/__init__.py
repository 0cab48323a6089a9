"""Task definitions: what a row means, and how an answer is scored.

What enters: a name such as `svamp_step_by_step`, or a description of the user's own files. What leaves: a
`data.task.DistillationTask` and its views (`registry.resolve`). Importing a module here registers its tasks
with our own registry and does nothing else; `MODULES` says which module registers which.
"""

MODULES = {
    "anli1": "anli",
    "anli2": "anli",
    "anli3": "anli",
    "arithmetic": "arithmetic",
    "cqa": "cqa",
    "entailment": "entailment",
    "esnli": "esnli",
    "esnli_small": "esnli",
    "svamp": "svamp",
    "svamp_asdiv": "svamp",
}
