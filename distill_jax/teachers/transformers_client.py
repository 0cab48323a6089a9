"""A local model by Hugging Face transformers, in this process."""

from collections.abc import Sequence

import torch
import transformers

from distill_jax.decoding.microbatch import MicroBatcher
from distill_jax.errors import UserError
from distill_jax.teachers.http_errors import one_line
from distill_jax.teachers.messages import Answer, Client, Reply, Request, Token
from distill_jax.teachers.parsing import cut


class TransformersClient(Client):
    """A causal language model by its name on the hub, or its folder.

    Without a `protocol` it chats where its tokenizer has a chat template; without a `device` it is on `cuda`
    where there is one.

    Raises:
      UserError: when the model cannot be loaded, or cannot chat and has to.
    """

    endpoint = "transformers"
    batches = True

    def __init__(self, model: str, protocol: str | None = None, batch_size: int = 8, device: str | None = None):
        try:
            # What comes with a model is data: no code of its repository, no pickles.
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(
                model, padding_side="left", trust_remote_code=False
            )
            self._model = transformers.AutoModelForCausalLM.from_pretrained(
                model, trust_remote_code=False, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise UserError(f"--model {model}: cannot be loaded: {one_line(str(error))}") from None
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device).eval()
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        can_chat = bool(self._tokenizer.chat_template)
        self.protocol = protocol or ("chat" if can_chat else "completions")
        if self.protocol == "chat" and not can_chat:
            raise UserError(f"--model {model}: its tokenizer has no chat template: --protocol completions")
        self._batcher = MicroBatcher(self._generate, batch_size=batch_size)

    async def complete(self, request: Request) -> Reply:
        [reply] = await self._batcher.submit(None, [request])
        return reply

    def _text(self, request: Request) -> str:
        if self.protocol == "completions":
            return request.prompt.text()
        return self._tokenizer.apply_chat_template(
            request.prompt.messages(), tokenize=False, add_generation_prompt=True
        )

    def _generate(self, _key: None, requests: Sequence[Request]) -> list[Reply]:
        """Answers a batch. All requests have the same sampling, except the seed: that of the first counts."""
        sampling = requests[0].sampling
        texts = [self._text(request) for request in requests]
        inputs = self._tokenizer(
            texts, return_tensors="pt", padding=True, add_special_tokens=self.protocol == "completions"
        ).to(self._device)
        if requests[0].seed is not None:
            torch.manual_seed(requests[0].seed)
        settings = {"do_sample": False}
        if sampling.temperature:
            settings = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p or 1.0}
        with torch.inference_mode():
            output = self._model.generate(
                **inputs,
                **settings,
                max_new_tokens=sampling.max_tokens,
                pad_token_id=self._tokenizer.pad_token_id,
                output_logits=bool(sampling.logprobs),
                return_dict_in_generate=True,
            )
        width = inputs["input_ids"].shape[1]
        return [self._reply(output, row, width, inputs, sampling) for row in range(len(requests))]

    def _reply(self, output, row: int, width: int, inputs, sampling) -> Reply:
        ids = output.sequences[row, width:].tolist()
        ends = {self._tokenizer.eos_token_id, self._tokenizer.pad_token_id}
        length = next((at for at, token in enumerate(ids) if token in ends), len(ids))
        text = self._tokenizer.decode(ids[:length], skip_special_tokens=True)
        tokens = None
        if sampling.logprobs:
            tokens = tuple(
                self._token(output.logits[at][row], ids[at], sampling.logprobs) for at in range(length)
            )
        shown = cut(text, sampling.stop)
        finish = "stop" if length < len(ids) or shown != text else "length"
        return Reply([Answer(shown, finish, tokens)], int(inputs["attention_mask"][row].sum()), length)

    def _token(self, logits, chosen: int, alternatives: int) -> Token:
        logprobs = torch.log_softmax(logits.float(), -1)
        values, ids = logprobs.topk(alternatives)
        listed = zip(ids.tolist(), values.tolist(), strict=True)
        shown = {self._tokenizer.decode([token]): value for token, value in listed}
        return Token(self._tokenizer.decode([chosen]), float(logprobs[chosen]), shown)
