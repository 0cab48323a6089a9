"""The methods under T5X's launcher: model class, feature converter, trainer. Needs T5X; see docs/t5x.md."""
