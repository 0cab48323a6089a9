"""The demo: step-by-step against standard fine-tuning, from a shipped student, in minutes."""
