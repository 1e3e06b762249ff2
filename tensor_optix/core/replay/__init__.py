"""The parts of the replay buffers."""
