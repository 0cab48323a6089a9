"""The teacher: prompts, clients of LLM endpoints, a store that never pays twice, and the quality of answers."""
