"""A trained student as others load it: the finished deliverable of a run.

The folder of a run enters, with its evaluations and the report on its teacher. A folder leaves that
transformers or CTranslate2 loads: weights, tokenizer, settings of generation, and a model card (`card`) of what
the run knows (`facts`) with code that calls the student (`snippets`). `hub` puts it into a repository of the
Hugging Face hub.
"""
