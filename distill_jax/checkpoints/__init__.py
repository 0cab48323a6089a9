"""What a run leaves on the disk, and models from elsewhere.

In goes the train state of a run, or a path or URL of a checkpoint in our, T5X's or Hugging Face's format. Out
come `MODEL_DIR/run.json`, Orbax checkpoints and their validation scores (`run_dir`, `orbax`), an opened
`Checkpoint` whose parameters have our names and are read one at a time (`reading`, `remote`), or the same in
another format (`convert`).
"""
