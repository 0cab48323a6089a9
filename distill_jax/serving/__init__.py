"""A trained student behind HTTP.

The folder of a run enters; OpenAI's chat and text completions and a plain `/predict` leave. Requests of all
connections share batches (`decoding.microbatch`). `app` has the routes, `requests` and `responses` the bodies,
`limits` what one request may ask for, `batches` what a batch is made of, `middleware` what all requests pass:
the key, metrics, and errors with their status. `listen` has the address, `connections` how many may be open.
`page` and `openapi` show it all to people and programs.
"""
