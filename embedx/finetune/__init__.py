"""Fine-tuning: labelled audio and a checkpoint -> a trained model in a folder, scored on rows that it has not seen.

`encoders` runs a checkpoint with gradients, `network` adds a head, `data` reads and splits the rows, `batches` groups
them by length, `trainer` trains, `run` does all of it, and `folder` writes and reads the result.
"""
