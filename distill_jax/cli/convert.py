"""`distill-jax convert`: between our checkpoints, T5X's and Hugging Face's."""

import argparse

from distill_jax.cli.common import add_command, lengths

FORMATS = ("distill-jax", "t5x", "t5x-orbax", "huggingface")  # of interop.checkpoint, which is heavy


def _convert(args: argparse.Namespace) -> int:
    import logging

    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax tells of every file, and errors twice
    from distill_jax.checkpoints.convert import convert

    done = convert(
        args.source,
        args.destination,
        args.to,
        step=args.step,
        task=args.task,
        task_feature_lengths=args.lengths,
        vocabulary=args.vocabulary,
        mlp_activations=tuple(args.activations.split(",")) if args.activations else None,
        scan_layers=args.scan_layers,
        ocdbt=args.ocdbt,
        dtype=args.dtype,
        shard_bytes=int(args.shard_gb * 10**9),
    )
    print(f"{done.parameters} parameters, {done.source_format} to {args.to}: {args.destination}")
    if not done.has_vocabulary:
        print("no vocabulary in the source, so none in the result: give --vocabulary to add one")
    if args.to == "distill-jax" and done.task is None:
        print("no task in the source: eval and infer need one, give --task; train --init takes it as it is")
    return 0


def add(commands) -> None:
    """Adds the command."""
    convert = add_command(
        commands, "convert", "turn a checkpoint into one of ours, T5X's or Hugging Face's", _convert
    )
    convert.add_argument(
        "source", help="run, T5X checkpoint or Hugging Face folder; local, gs:// or hf://ORG/NAME"
    )
    convert.add_argument("destination", help="folder to write, which must not be there")
    convert.add_argument("--to", required=True, choices=FORMATS)
    convert.add_argument("--step", type=int, help="of a source with several; of a result whose source has none")
    convert.add_argument("--task", help="to evaluate a result of ours on, such as svamp_step_by_step")
    convert.add_argument("--lengths", type=lengths, metavar="INPUTS,TARGETS", help="of that task, in tokens")
    convert.add_argument("--vocabulary", help="bytes, a SentencePiece file or URL, or a run's folder")
    convert.add_argument("--activations", help="of a T5X source, where not the usual: silu,linear")
    convert.add_argument("--scan-layers", action="store_true", help="layers stacked, for SCAN_LAYERS = True")
    convert.add_argument("--no-ocdbt", dest="ocdbt", action="store_false", help="Orbax with a folder an array")
    convert.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    convert.add_argument("--shard-gb", type=float, default=5.0, help="Hugging Face files of at most so much")
