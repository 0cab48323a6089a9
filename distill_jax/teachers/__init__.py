"""The teacher: an LLM that labels rows and explains its labels.

Rows enter (`rows`), become prompts (`prompts`, `demonstrations`) and requests (`jobs`), and are sent to an
endpoint or a local model (`clients`) within limits (`annotator`). Completions are kept in a store, so that none
is paid for twice; parsed and judged (`quality`, `export`), they leave as rows to train on. All of it is a
`session`.
"""
