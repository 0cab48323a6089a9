"""The demo: step-by-step against standard fine-tuning, in minutes."""
