"""T5X's own network, with the call that our losses make of ours."""

from typing import Any

import jax
from flax import linen as nn

from distill_jax.models.config import T5Config


class NetworkStates:
    """`t5x.examples.t5.network.Transformer` short of its logits, as `models.t5.Transformer.hidden`.

    Its parameter tree is that of ours: `models.encoder_decoder.output_kernel` finds the output projection. With
    the states in place of the logits the loss is taken in chunks here too.
    """

    def __init__(self, module: nn.Module):
        self.module, theirs = module, module.config
        self.config = T5Config(
            theirs.vocab_size, emb_dim=theirs.emb_dim, logits_via_embedding=theirs.logits_via_embedding
        )

    def apply(
        self, variables: Any, encoder_input_tokens: jax.Array, *tokens: jax.Array, method: str, **options
    ) -> jax.Array:
        """[batch, targets, embed], for the arguments of `Transformer.hidden`."""
        if method != "hidden":
            raise ValueError(f"only the method hidden is known here, not {method!r}")
        cross_mask, cross_ids = None, options.pop("decoder_cross_segment_ids", None)
        if cross_ids is not None:
            reads = cross_ids[:, :, None] == options["encoder_segment_ids"][:, None, :]
            reads &= (encoder_input_tokens > 0)[:, None, :]
            cross_mask = reads[:, None].astype(self.module.config.dtype)

        def without_logits(next_fun, args, kwargs, context):
            name = context.module.name
            if name == "logits_dense":
                return args[0]
            if name == "token_embedder" and context.method_name == "attend":
                return args[0] * args[0].shape[-1] ** 0.5  # the decoder divides by it next
            if name == "decoder" and context.method_name == "__call__" and cross_mask is not None:
                kwargs = kwargs | {"encoder_decoder_mask": cross_mask}
            return next_fun(*args, **kwargs)

        with nn.intercept_methods(without_logits):
            return self.module.apply(variables, encoder_input_tokens, *tokens, **options)
