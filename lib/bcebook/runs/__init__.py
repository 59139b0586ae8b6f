"""What a training run is, and how it is stored, checked and packed."""
