"""Audio: decode a recording to a clip, cut the clip into windows, and do both in a child process."""
