"""Fast backend: a built-in forward pass of Wav2Vec2, HuBERT and similar models. Same frames, several times as fast."""
