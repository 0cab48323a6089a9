"""The tasks that are shipped; `MODULES` says which module registers which."""

MODULES = {
    "anli1": "anli",
    "anli2": "anli",
    "anli3": "anli",
    "arithmetic": "arithmetic",
    "cqa": "cqa",
    "entailment": "entailment",
    "esnli": "esnli",
    "svamp": "svamp",
    "svamp_asdiv": "svamp",
}
