"""The parts of a population: members, variants, and how they are tried."""
