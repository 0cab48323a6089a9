"""Decoder-only students of the Llama kind, with the call signature of `t5.Transformer`.

Touvron et al. 2023 (arXiv:2302.13971): RMSNorm, rotary positions (Su et al. 2021, arXiv:2104.09864), SwiGLU
(Shazeer 2020, arXiv:2002.05202); grouped queries (Ainslie et al. 2023, arXiv:2305.13245); with norms of queries
and keys it is Qwen 3 (arXiv:2505.09388).

What T5 reads in its encoder is the prefix here: `encoder_input_tokens`. The targets continue it. Attention is
causal throughout, so the prefix does not depend on the targets: its keys and values are what `encode` returns,
they are computed once for all that continue it, and several targets may share one prefix without seeing each
other. A packed batch needs nothing more than T5's: the segments say which target continues which prefix.
"""

from typing import Any

import jax
import jax.numpy as jnp

from distill_jax.models.encoder_decoder import EncoderDecoder, causal, same_segment
from distill_jax.models.layers import Embed
from distill_jax.models.llama_config import LlamaConfig
from distill_jax.models.llama_layers import Decoder, Masks

Array = jax.Array
INIT_STDDEV = 0.02  # of a random embedding, which is the logits' kernel too


class DecoderOnly(EncoderDecoder):
    """A decoder-only network. Tokens are int32; `config.pad_id`, or what is in segment 0, is padding."""

    config: LlamaConfig

    def setup(self):
        cfg = self.config
        self.token_embedder = Embed(cfg.vocab_size, cfg.emb_dim, cfg.dtype, INIT_STDDEV)
        self.decoder = Decoder(cfg, self.token_embedder)

    def encode(
        self, encoder_input_tokens: Array, encoder_segment_ids: Array | None = None, enable_dropout: bool = True
    ) -> Any:
        """int32 [batch, inputs] -> the keys and values of every layer, for the other methods."""
        masks = Masks(self._prefix_mask(encoder_input_tokens, encoder_segment_ids))
        return self.decoder.hidden(encoder_input_tokens, masks, not enable_dropout, gives_keys=True)[1]

    @staticmethod
    def _prefix_mask(tokens: Array, segments: Array | None) -> Array:
        mask = causal(tokens.shape[1])
        return mask if segments is None else mask & same_segment(segments, segments)

    @staticmethod
    def _target_masks(inputs, tokens, input_segments, segments, read_segments) -> Masks:
        """Of the targets, to the prefix and to themselves; see `hidden`."""
        own = causal(tokens.shape[1])
        if input_segments is None:
            real = (inputs != LlamaConfig.pad_id)[:, None]
            return Masks(None, jnp.broadcast_to(real, (*tokens.shape, inputs.shape[1])), own)
        read_segments = segments if read_segments is None else read_segments
        return Masks(None, same_segment(read_segments, input_segments), own & same_segment(segments, segments))

    def decoder_states(
        self,
        encoded: Any,
        encoder_input_tokens: Array,
        decoder_input_tokens: Array,
        encoder_segment_ids: Array | None,
        decoder_segment_ids: Array | None,
        enable_dropout: bool,
        decode: bool,
        max_decode_length: int | None = None,
        decoder_cross_segment_ids: Array | None = None,
        row_starts: Array | None = None,
    ) -> Array:
        """As `t5.Transformer.decoder_states`, after `encode`: [batch, targets, embed]."""
        if decode and encoder_segment_ids is not None:
            raise ValueError("packed inputs cannot be decoded: encoder_segment_ids was given")
        if max_decode_length is not None:
            encoded = None  # the collection `cross` has it
        segments = encoder_segment_ids, decoder_segment_ids, decoder_cross_segment_ids
        masks = self._target_masks(encoder_input_tokens, decoder_input_tokens, *segments)
        options = (decode, max_decode_length, row_starts)
        return self.decoder.hidden(decoder_input_tokens, masks, not enable_dropout, encoded, False, *options)[0]

    def hidden(
        self,
        encoder_input_tokens: Array,
        decoder_input_tokens: Array,
        decoder_target_tokens: Array,
        encoder_segment_ids: Array | None = None,
        decoder_segment_ids: Array | None = None,
        encoder_positions: Array | None = None,
        decoder_positions: Array | None = None,
        *,
        decoder_cross_segment_ids: Array | None = None,
        enable_dropout: bool = True,
    ) -> Array:
        """Teacher forcing, prefix and targets in one pass; arguments and result of `t5.Transformer.hidden`.

        Positions follow from the segments: the arguments are not read.
        """
        del decoder_target_tokens, encoder_positions, decoder_positions
        segments = encoder_segment_ids, decoder_segment_ids, decoder_cross_segment_ids
        masks = self._target_masks(encoder_input_tokens, decoder_input_tokens, *segments)
        masks = masks._replace(prefix=self._prefix_mask(encoder_input_tokens, encoder_segment_ids))
        tokens = jnp.concatenate([encoder_input_tokens, decoder_input_tokens], axis=1)
        states, _ = self.decoder.hidden(tokens, masks, not enable_dropout)
        return states[:, encoder_input_tokens.shape[1] :]
