"""What pages are built from: plain HTML elements, and a few components of the console's own."""
