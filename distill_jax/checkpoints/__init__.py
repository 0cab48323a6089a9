"""What a run leaves on the disk, and models from elsewhere.

In goes the train state of a run, or a path or URL of a checkpoint in our, T5X's or Hugging Face's format. Out
come a run's folder, an opened `Checkpoint` whose parameters have our names and are read one at a time
(`reading`, `remote`), or the same in another format (`convert`). The layout of a run's folder is in
`layout`; `run_dir` writes `run.json`, `config.json` and `data.json`, `orbax` the checkpoints and `scores.json`;
`whole` says whether a checkpoint is damaged, `checking` the same of all files of a run.
"""
