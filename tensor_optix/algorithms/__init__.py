"""The algorithms, once each over a backend, and a thin public class per framework."""
