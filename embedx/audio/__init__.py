"""Audio: decode a recording to a clip and cut the clip into windows, in a child process."""
