"""What the command line and the example scripts share."""
