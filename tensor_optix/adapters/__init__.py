"""The only place that imports a framework: one backend module each, one Protocol."""
