"""Its import is `seqio_tasks.register()`: for MIXTURE_OR_TASK_MODULE and SeqIO's `--module_import`.

All shipped tasks are added, and those of modules that were imported before. The vocabulary is that of the tasks
that were added before, if there are any, else DISTILL_JAX_SENTENCEPIECE's, else bytes.
"""

from distill_jax.t5x import seqio_tasks

seqio_tasks.register()
