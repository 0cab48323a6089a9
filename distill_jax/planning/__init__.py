"""What a run will need and cost on devices that are not there."""
