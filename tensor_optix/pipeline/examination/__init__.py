"""Looking an environment over before anything is learned in it."""
