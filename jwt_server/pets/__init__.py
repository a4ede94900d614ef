"""The example resource: copy this folder for your own."""
