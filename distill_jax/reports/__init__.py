"""What a run shows to a person: tables and self-contained HTML."""
