"""What surrounds streammeta where it runs: a broker for trying it and for tests, later images and charts."""
