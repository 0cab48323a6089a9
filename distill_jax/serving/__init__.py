"""A student behind HTTP: OpenAI's chat-completions protocol and a plain `/predict`."""
