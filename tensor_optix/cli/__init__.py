"""The `tensor-optix` command."""
