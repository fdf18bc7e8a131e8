"""What builds and checks this repository; the package needs none of it. Run from the top: python -m tools.NAME."""
